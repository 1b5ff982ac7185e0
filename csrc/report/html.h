// SPDX-License-Identifier: Apache-2.0
// Text that goes into an HTML page.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace forja {

// Safe as element content and inside quoted attributes. Bytes that are not UTF-8 become U+FFFD.
std::string escape_html(std::string_view text);

// A quoted JSON string that is also safe inside a <script> element.
std::string script_string(std::string_view text);

// Replaces every {{key}} of `page`, in one pass: what goes in is not looked at again. Throws on an
// unknown key.
std::string fill_template(std::string_view page, const std::map<std::string, std::string>& values);

}  // namespace forja

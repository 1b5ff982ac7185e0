// SPDX-License-Identifier: Apache-2.0
// The fixed parts of the report page.
#pragma once

#include <string_view>

namespace forja {

// The page with {{title}}, {{style}}, {{facts}}, {{tiles}}, {{warnings}}, {{charts}},
// {{environment}}, {{config}},
// {{data}} and {{script}}.
std::string_view page_skeleton();
std::string_view page_style();   // CSS
std::string_view page_script();  // JavaScript

}  // namespace forja

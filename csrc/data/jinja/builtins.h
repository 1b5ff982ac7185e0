// SPDX-License-Identifier: Apache-2.0
// Filters, tests, methods and functions. What is not here is refused by its name.
#pragma once

#include <string>

#include "csrc/data/jinja/value.h"

namespace forja::jinja {

// value | name(arguments)
Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments);
// value is name(arguments)
bool apply_test(const std::string& name, const Value& value, const Arguments& arguments);
// value.name(arguments); throws where values of its kind have no such method.
Value call_method(const std::string& name, const Value& value, const Arguments& arguments);
bool has_method(const std::string& name, const Value& value);
// range, namespace, dict, raise_exception, strftime_now; undefined for other names.
Value find_function(const std::string& name);

// needle in haystack
bool contains(const Value& haystack, const Value& needle);
// What a loop goes through: items, keys, characters.
List items_of(const Value& value);
// value.name or value["name"] of a mapping; undefined where it is not there.
Value attribute_of(const Value& value, const std::string& name);

}  // namespace forja::jinja

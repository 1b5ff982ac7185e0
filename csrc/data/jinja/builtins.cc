// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/jinja/builtins.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <functional>
#include <map>

#include "forja/base/error.h"

namespace forja::jinja {
namespace {

constexpr const char* kSpace = " \t\n\r\v\f";
constexpr int64_t kMaxRange = 100000;

const std::string& text_of(const Value& v, const char* what) {
  if (!v.text()) fail_input("{} of {}: expected a string", what, v.kind());
  return *v.text();
}

std::string strip(const std::string& s, const std::string& chars, bool left, bool right) {
  const size_t begin = left ? s.find_first_not_of(chars) : 0;
  if (begin == std::string::npos) return "";
  const size_t end = right ? s.find_last_not_of(chars) : s.size() - 1;
  return end == std::string::npos || s.empty() ? "" : s.substr(begin, end - begin + 1);
}

std::string replaced(const std::string& s, const std::string& from, const std::string& to,
                     int64_t most) {
  if (from.empty()) fail_input("replace: what is replaced is empty");
  std::string out;
  size_t at = 0;
  for (int64_t n = 0; most < 0 || n < most; ++n) {
    const size_t found = s.find(from, at);
    if (found == std::string::npos) break;
    out += s.substr(at, found - at) + to;
    check_size(out);
    at = found + from.size();
  }
  return out + s.substr(at);
}

// Of ASCII letters: published templates change the case of role names only.
std::string with_case(std::string s, int (*of_first)(int), int (*of_others)(int), bool words) {
  bool first = true;
  for (char& c : s) {
    if (uint8_t(c) < 0x80) c = char(first ? of_first(uint8_t(c)) : of_others(uint8_t(c)));
    first = words && !std::isalpha(uint8_t(c));
  }
  return s;
}

List split(const std::string& s, const Arguments& a) {
  const Value separator = a.get(0, "sep"), most = a.get(1, "maxsplit");
  const int64_t limit = most.as<int64_t>() ? *most.as<int64_t>() : -1;
  List out;
  size_t at = 0;
  if (!separator.text()) {  // at white space, of which empty parts are left out
    while ((at = s.find_first_not_of(kSpace, at)) != std::string::npos) {
      if (limit >= 0 && int64_t(out.size()) == limit) {
        out.push_back(s.substr(at));
        break;
      }
      const size_t end = std::min(s.find_first_of(kSpace, at), s.size());
      out.push_back(s.substr(at, end - at));
      at = end;
    }
    return out;
  }
  const std::string& by = *separator.text();
  if (by.empty()) fail_input("split: the separator is empty");
  while (limit < 0 || int64_t(out.size()) < limit) {
    const size_t found = s.find(by, at);
    if (found == std::string::npos) break;
    out.push_back(s.substr(at, found - at));
    at = found + by.size();
  }
  out.push_back(s.substr(at));
  return out;
}

using Method = std::function<Value(const std::string&, const Arguments&)>;

const std::map<std::string, Method>& text_methods() {
  const auto strips = [](bool left, bool right) -> Method {
    return [=](const std::string& s, const Arguments& a) {
      const Value chars = a.get(0, "chars");
      return Value(strip(s, chars.text() ? *chars.text() : kSpace, left, right));
    };
  };
  const auto recase = [](int (*of_first)(int), int (*of_others)(int), bool words) -> Method {
    return [=](const std::string& s, const Arguments&) {
      return Value(with_case(s, of_first, of_others, words));
    };
  };
  static const std::map<std::string, Method> methods = {
      {"strip", strips(true, true)},
      {"lstrip", strips(true, false)},
      {"rstrip", strips(false, true)},
      {"upper", recase(std::toupper, std::toupper, false)},
      {"lower", recase(std::tolower, std::tolower, false)},
      {"title", recase(std::toupper, std::tolower, true)},
      {"capitalize", recase(std::toupper, std::tolower, false)},
      {"split", [](const std::string& s, const Arguments& a) { return Value(split(s, a)); }},
      {"startswith",
       [](const std::string& s, const Arguments& a) {
         return Value(s.rfind(text_of(a.get(0, "prefix"), "startswith"), 0) == 0);
       }},
      {"endswith",
       [](const std::string& s, const Arguments& a) {
         const std::string end = text_of(a.get(0, "suffix"), "endswith");
         return Value(s.size() >= end.size() &&
                      s.compare(s.size() - end.size(), end.size(), end) == 0);
       }},
      {"replace",
       [](const std::string& s, const Arguments& a) {
         const Value most = a.get(2, "count");
         return Value(replaced(s, text_of(a.get(0, "old"), "replace"),
                               text_of(a.get(1, "new"), "replace"),
                               most.as<int64_t>() ? *most.as<int64_t>() : -1));
       }},
  };
  return methods;
}

using MappingMethod = std::function<Value(const Dict&, const Arguments&)>;

const std::map<std::string, MappingMethod>& mapping_methods() {
  static const std::map<std::string, MappingMethod> methods = {
      {"items",
       [](const Dict& d, const Arguments&) {
         List out;
         for (const auto& [key, value] : d.items) out.push_back(List{key, value});
         return Value(out);
       }},
      {"keys",
       [](const Dict& d, const Arguments&) {
         List out;
         for (const auto& item : d.items) out.push_back(item.first);
         return Value(out);
       }},
      {"values",
       [](const Dict& d, const Arguments&) {
         List out;
         for (const auto& item : d.items) out.push_back(item.second);
         return Value(out);
       }},
      {"get",
       [](const Dict& d, const Arguments& a) {
         const Value* found = d.find(text_of(a.get(0, "key"), "get"));
         if (found) return *found;
         const Value other = a.get(1, "default");
         return other.is_undefined() ? Value(None{}) : other;
       }},
  };
  return methods;
}

Value to_integer(const Value& v) {
  if (v.is_number() || v.as<bool>()) return int64_t(number(v));
  try {
    return int64_t(std::stoll(text_of(v, "int")));
  } catch (const std::exception&) {
    return int64_t(0);
  }
}
Value to_real(const Value& v) {
  if (v.is_number() || v.as<bool>()) return number(v);
  try {
    return std::stod(text_of(v, "float"));
  } catch (const std::exception&) {
    return 0.0;
  }
}

std::string joined(const Value& v, const Arguments& a) {
  const std::string separator = a.get(0, "d").to_string();
  const Value attribute = a.get(1, "attribute");
  std::string out;
  bool first = true;
  for (const Value& item : items_of(v)) {
    if (!first) out += separator;
    first = false;
    out += (attribute.text() ? attribute_of(item, *attribute.text()) : item).to_string();
    check_size(out);
  }
  return out;
}

Arguments without_first(const Arguments& a, size_t n) {
  Arguments out = a;
  out.positional.erase(out.positional.begin(),
                       out.positional.begin() + int64_t(std::min(n, out.positional.size())));
  return out;
}

// select, reject, selectattr, rejectattr
List selected(const Value& v, const Arguments& a, bool by_attribute, bool wanted) {
  const size_t test_at = by_attribute ? 1 : 0;
  const Value test = a.get(test_at, "test");
  List out;
  for (const Value& item : items_of(v)) {
    const Value x =
        by_attribute ? attribute_of(item, text_of(a.get(0, "attribute"), "selectattr")) : item;
    const bool holds =
        test.text() ? apply_test(*test.text(), x, without_first(a, test_at + 1)) : x.truth();
    if (holds == wanted) out.push_back(item);
  }
  return out;
}

List mapped(const Value& v, const Arguments& a) {
  const Value attribute = a.get(size_t(-1), "attribute");
  List out;
  for (const Value& item : items_of(v)) {
    out.push_back(attribute.text() ? attribute_of(item, *attribute.text())
                                   : apply_filter(text_of(a.get(0, "filter"), "map"), item,
                                                  without_first(a, 1)));
  }
  return out;
}

using Filter = std::function<Value(const Value&, const Arguments&)>;

const std::map<std::string, Filter>& filters() {
  const auto length_of = [](const Value& v, const Arguments&) { return Value(length(v)); };
  const auto or_default = [](const Value& v, const Arguments& a) {
    const bool missing = v.is_undefined() || (a.get(1, "boolean").truth() && !v.truth());
    return missing ? a.get(0, "default_value") : v;
  };
  static const std::map<std::string, Filter> table = {
      {"length", length_of},
      {"count", length_of},
      {"default", or_default},
      {"d", or_default},
      {"safe", [](const Value& v, const Arguments&) { return v; }},
      {"string", [](const Value& v, const Arguments&) { return Value(v.to_string()); }},
      {"int", [](const Value& v, const Arguments&) { return to_integer(v); }},
      {"float", [](const Value& v, const Arguments&) { return to_real(v); }},
      {"abs",
       [](const Value& v, const Arguments&) {
         const int64_t* i = v.as<int64_t>();
         return i ? Value(*i < 0 ? -*i : *i) : Value(std::fabs(number(v)));
       }},
      {"trim",
       [](const Value& v, const Arguments& a) {
         const Value chars = a.get(0, "chars");
         return Value(strip(v.to_string(), chars.text() ? *chars.text() : kSpace, true, true));
       }},
      {"tojson",
       [](const Value& v, const Arguments& a) {
         const Value indent = a.get(size_t(-1), "indent");
         return Value(v.to_json(indent.as<int64_t>() ? int(*indent.as<int64_t>()) : -1));
       }},
      {"list", [](const Value& v, const Arguments&) { return Value(items_of(v)); }},
      {"first",
       [](const Value& v, const Arguments&) {
         const List items = items_of(v);
         return items.empty() ? Value(Undefined{"first"}) : items.front();
       }},
      {"last",
       [](const Value& v, const Arguments&) {
         const List items = items_of(v);
         return items.empty() ? Value(Undefined{"last"}) : items.back();
       }},
      {"reverse",
       [](const Value& v, const Arguments&) {
         List items = items_of(v);
         std::reverse(items.begin(), items.end());
         if (!v.text()) return Value(items);
         std::string text;
         for (const Value& c : items) text += *c.text();
         return Value(text);
       }},
      {"dictsort",
       [](const Value& v, const Arguments& a) {
         List pairs = items_of(call_method("items", v, {}));
         const auto key = [](const Value& pair) {
           return with_case(*pair.list()->front().text(), std::tolower, std::tolower, false);
         };
         if (!a.positional.empty() || !a.named.empty()) fail_input("dictsort takes no arguments");
         std::stable_sort(pairs.begin(), pairs.end(),
                          [&](const Value& x, const Value& y) { return key(x) < key(y); });
         return Value(pairs);
       }},
      {"join", [](const Value& v, const Arguments& a) { return Value(joined(v, a)); }},
      {"items",
       [](const Value& v, const Arguments& a) {
         return v.is_undefined() ? Value(List{}) : call_method("items", v, a);
       }},
      {"map", [](const Value& v, const Arguments& a) { return Value(mapped(v, a)); }},
      {"select",
       [](const Value& v, const Arguments& a) { return Value(selected(v, a, false, true)); }},
      {"reject",
       [](const Value& v, const Arguments& a) { return Value(selected(v, a, false, false)); }},
      {"selectattr",
       [](const Value& v, const Arguments& a) { return Value(selected(v, a, true, true)); }},
      {"rejectattr",
       [](const Value& v, const Arguments& a) { return Value(selected(v, a, true, false)); }},
  };
  return table;
}

using Test = std::function<bool(const Value&, const Value& argument)>;

const std::map<std::string, Test>& tests() {
  const auto is_equal = [](const Value& v, const Value& a) { return equal(v, a); };
  static const std::map<std::string, Test> table = {
      {"defined", [](const Value& v, const Value&) { return !v.is_undefined(); }},
      {"undefined", [](const Value& v, const Value&) { return v.is_undefined(); }},
      {"none", [](const Value& v, const Value&) { return v.is_none(); }},
      {"string", [](const Value& v, const Value&) { return v.text() != nullptr; }},
      {"number",
       [](const Value& v, const Value&) { return v.is_number() || v.as<bool>() != nullptr; }},
      {"integer", [](const Value& v, const Value&) { return v.as<int64_t>() != nullptr; }},
      {"float", [](const Value& v, const Value&) { return v.as<double>() != nullptr; }},
      {"boolean", [](const Value& v, const Value&) { return v.as<bool>() != nullptr; }},
      {"true", [](const Value& v, const Value&) { return v.as<bool>() && *v.as<bool>(); }},
      {"false", [](const Value& v, const Value&) { return v.as<bool>() && !*v.as<bool>(); }},
      {"mapping", [](const Value& v, const Value&) { return v.dict() != nullptr; }},
      {"sequence", [](const Value& v, const Value&) { return v.text() || v.list() || v.dict(); }},
      {"iterable",
       [](const Value& v, const Value&) {
         return v.text() || v.list() || v.dict() || v.is_undefined();
       }},
      {"callable", [](const Value& v, const Value&) { return v.function() != nullptr; }},
      {"odd", [](const Value& v, const Value&) { return int64_t(number(v)) % 2 != 0; }},
      {"even", [](const Value& v, const Value&) { return int64_t(number(v)) % 2 == 0; }},
      {"in", [](const Value& v, const Value& a) { return contains(a, v); }},
      {"equalto", is_equal},
      {"eq", is_equal},
      {"ne", [](const Value& v, const Value& a) { return !equal(v, a); }},
  };
  return table;
}

template <class Table>
const auto& find_in(const Table& table, const char* what, const std::string& name) {
  const auto found = table.find(name);
  if (found == table.end()) fail_input("the {} \"{}\" is not supported", what, name);
  return found->second;
}

List range(const Arguments& a) {
  const auto integer = [&](size_t i) { return int64_t(number(a.positional.at(i))); };
  const size_t n = a.positional.size();
  if (n < 1 || n > 3) fail_input("range() takes one to three numbers");
  const int64_t begin = n > 1 ? integer(0) : 0, end = integer(n > 1 ? 1 : 0);
  const int64_t step = n > 2 ? integer(2) : 1;
  if (step == 0) fail_input("range() with a step of 0");
  List out;
  for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
    if (int64_t(out.size()) == kMaxRange) fail_input("range() of more than {} numbers", kMaxRange);
    out.push_back(i);
  }
  return out;
}

Dict dict_of(const Arguments& a, bool is_namespace) {
  Dict out;
  for (const Value& v : a.positional)
    if (v.dict()) out.items = v.dict()->items;
  for (const auto& [key, value] : a.named) out.set(key, value);
  out.is_namespace = is_namespace;
  return out;
}

}  // namespace

Value apply_filter(const std::string& name, const Value& value, const Arguments& arguments) {
  const auto of_text = text_methods().find(name);  // upper, lower, title, replace, ...
  if (of_text != text_methods().end() && filters().find(name) == filters().end())
    return of_text->second(value.to_string(), arguments);
  return find_in(filters(), "filter", name)(value, arguments);
}

bool apply_test(const std::string& name, const Value& value, const Arguments& arguments) {
  return find_in(tests(), "test", name)(value, arguments.get(0, "argument"));
}

Value call_method(const std::string& name, const Value& value, const Arguments& arguments) {
  if (value.text()) return find_in(text_methods(), "method", name)(*value.text(), arguments);
  if (value.dict()) return find_in(mapping_methods(), "method", name)(*value.dict(), arguments);
  fail_input("{} has no method \"{}\"", value.kind(), name);
}

bool has_method(const std::string& name, const Value& value) {
  return value.text() ? text_methods().count(name) > 0
                      : value.dict() && mapping_methods().count(name) > 0;
}

Value find_function(const std::string& name) {
  if (name == "range") return Function([](const Arguments& a) { return Value(range(a)); });
  if (name == "namespace")
    return Function([](const Arguments& a) { return Value(dict_of(a, true)); });
  if (name == "dict") return Function([](const Arguments& a) { return Value(dict_of(a, false)); });
  if (name == "raise_exception") {
    return Function([](const Arguments& a) -> Value {
      fail_input("the template refuses it: {}", a.get(0, "message").to_string());
    });
  }
  if (name == "strftime_now") {
    return Function([](const Arguments& a) {
      const std::time_t now = std::time(nullptr);
      std::tm local{};
      char text[256] = "";
      const size_t n =
          std::strftime(text, sizeof text, text_of(a.get(0, "format"), "strftime_now").c_str(),
                        ::localtime_r(&now, &local));
      return Value(std::string(text, n));
    });
  }
  return Undefined{name};
}

bool contains(const Value& haystack, const Value& needle) {
  if (haystack.text())
    return haystack.text()->find(text_of(needle, "\"in\" a string")) != std::string::npos;
  if (haystack.dict()) return needle.text() && haystack.dict()->find(*needle.text());
  const List items = items_of(haystack);
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& item) { return equal(item, needle); });
}

List items_of(const Value& value) {
  if (value.list()) return *value.list();
  if (value.is_undefined()) return {};
  List out;
  if (value.dict()) {
    for (const auto& item : value.dict()->items) out.push_back(item.first);
    return out;
  }
  if (!value.text()) fail_input("{} cannot be gone through", value.kind());
  const std::vector<size_t> at = characters(*value.text());
  for (size_t i = 0; i + 1 < at.size(); ++i)
    out.push_back(value.text()->substr(at[i], at[i + 1] - at[i]));
  return out;
}

Value attribute_of(const Value& value, const std::string& name) {
  if (value.is_undefined()) fail_input("{} has no \"{}\"", value.kind(), name);
  const Value* found = value.dict() ? value.dict()->find(name) : nullptr;
  return found ? *found : Value(Undefined{name});
}

}  // namespace forja::jinja

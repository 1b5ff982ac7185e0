// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/jinja/value.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "forja/base/error.h"

namespace forja::jinja {
namespace {

// Python's repr of a float.
std::string float_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  std::string text = fmt::format("{}", d);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

std::string quoted(const std::string& s, char quote, bool is_json) {
  std::string out(1, quote);
  for (const char c : s) {
    if (c == quote || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (is_json && c == '\b') {
      out += "\\b";
    } else if (is_json && c == '\f') {
      out += "\\f";
    } else if (uint8_t(c) < 0x20 || (!is_json && c == 0x7f)) {
      out += is_json ? fmt::format("\\u{:04x}", uint8_t(c)) : fmt::format("\\x{:02x}", uint8_t(c));
    } else {
      out += c;
    }
  }
  return out + quote;
}

// Of what has `depth` so far and gets `item`.
int checked_depth(int depth, const Value& item) {
  const int with_item = std::max(depth, item.depth() + 1);
  if (with_item > kMaxDepth) fail_input("values in values, more than {} deep", kMaxDepth);
  return with_item;
}

}  // namespace

const std::string& check_size(const std::string& text) {
  if (text.size() > kMaxBytes) fail_input("a text of more than {} bytes", kMaxBytes);
  return text;
}

Value::Value(List l) {
  if (l.size() > kMaxItems) fail_input("a list of more than {} items", kMaxItems);
  auto made = std::make_shared<ListOfDepth>();
  for (const Value& item : l) made->depth = checked_depth(made->depth, item);
  made->items = std::move(l);
  data_ = std::move(made);
}

const List* Value::list() const {
  const ListOfDepth* const found = pointer<ListOfDepth>();
  return found ? &found->items : nullptr;
}

int Value::depth() const {
  if (const ListOfDepth* l = pointer<ListOfDepth>()) return l->depth;
  return dict() ? dict()->depth : 0;
}

const Value* Dict::find(const std::string& key) const {
  for (const auto& [name, value] : items)
    if (name == key) return &value;
  return nullptr;
}

void Dict::set(const std::string& key, Value value) {
  depth = checked_depth(depth, value);
  for (auto& [name, old] : items) {
    if (name != key) continue;
    old = std::move(value);
    return;
  }
  items.emplace_back(key, std::move(value));
}

Value Arguments::get(size_t i, const std::string& name) const {
  if (i < positional.size()) return positional[i];
  for (const auto& [given, value] : named)
    if (given == name) return value;
  return Undefined{name};
}

Value Value::from_json(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
    case Json::value_t::number_unsigned:
      return json.get<int64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get<std::string>();
    case Json::value_t::array: {
      List list;
      for (const Json& item : json) list.push_back(from_json(item));
      return list;
    }
    case Json::value_t::object: {
      Dict dict;
      for (const auto& [key, item] : json.items()) dict.set(key, from_json(item));
      return dict;
    }
    default:
      return None{};
  }
}

bool Value::truth() const {
  if (const bool* b = as<bool>()) return *b;
  if (const int64_t* i = as<int64_t>()) return *i != 0;
  if (const double* d = as<double>()) return *d != 0.0;
  if (const std::string* s = text()) return !s->empty();
  if (const List* l = list()) return !l->empty();
  if (const Dict* d = dict()) return d->is_namespace || !d->items.empty();
  return function() != nullptr;
}

std::string Value::to_string() const {
  if (is_undefined()) return "";
  return text() ? *text() : repr();
}

std::string Value::repr() const {
  if (is_none()) return "None";
  if (const bool* b = as<bool>()) return *b ? "True" : "False";
  if (const int64_t* i = as<int64_t>()) return std::to_string(*i);
  if (const double* d = as<double>()) return float_text(*d);
  if (const std::string* s = text()) {
    const bool has_single = s->find('\'') != std::string::npos;
    return quoted(*s, has_single && s->find('"') == std::string::npos ? '"' : '\'', false);
  }
  std::string out;
  if (const List* l = list()) {
    for (const Value& item : *l) {
      out += (out.empty() ? "" : ", ") + item.repr();
      check_size(out);
    }
    return "[" + out + "]";
  }
  if (const Dict* d = dict()) {
    for (const auto& [key, item] : d->items) {
      out += (out.empty() ? "" : ", ") + quoted(key, '\'', false) + ": " + item.repr();
      check_size(out);
    }
    return "{" + out + "}";
  }
  fail_input("{} cannot be printed", kind());
}

std::string Value::to_json(int indent) const {
  std::string out;
  write_json(out, indent, 1);
  return out;
}

void Value::write_json(std::string& out, int indent, int depth) const {
  const auto line = [&](int level) {
    if (indent >= 0) out += "\n" + std::string(size_t(indent * level), ' ');
  };
  check_size(out);
  const std::string separator = indent >= 0 ? "," : ", ";
  if (const List* l = list()) {
    out += '[';
    for (size_t i = 0; i < l->size(); ++i) {
      if (i > 0) out += separator;
      line(depth);
      (*l)[i].write_json(out, indent, depth + 1);
    }
    if (!l->empty()) line(depth - 1);
    out += ']';
  } else if (const Dict* d = dict()) {
    out += '{';
    for (size_t i = 0; i < d->items.size(); ++i) {
      if (i > 0) out += separator;
      line(depth);
      out += quoted(d->items[i].first, '"', true) + ": ";
      d->items[i].second.write_json(out, indent, depth + 1);
    }
    if (!d->items.empty()) line(depth - 1);
    out += '}';
  } else if (const std::string* s = text()) {
    out += quoted(*s, '"', true);
  } else if (const bool* b = as<bool>()) {
    out += *b ? "true" : "false";
  } else if (is_none()) {
    out += "null";
  } else if (is_number()) {
    out += repr();
  } else {
    fail_input("{} is no JSON", kind());
  }
}

std::string Value::kind() const {
  if (const Undefined* u = as<Undefined>())
    return fmt::format("\"{}\", which is undefined", u->name);
  if (is_none()) return "none";
  if (as<bool>()) return "a boolean";
  if (is_number()) return "a number";
  if (text()) return "a string";
  if (list()) return "a list";
  return dict() ? "a mapping" : "a function";
}

bool equal(const Value& a, const Value& b) {
  const auto numeric = [](const Value& v) { return v.is_number() || v.as<bool>(); };
  if (numeric(a) && numeric(b)) return number(a) == number(b);
  if (a.text() && b.text()) return *a.text() == *b.text();
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.list() && b.list()) {
    const List &x = *a.list(), &y = *b.list();
    if (x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i)
      if (!equal(x[i], y[i])) return false;
    return true;
  }
  if (a.dict() && b.dict()) {
    if (a.dict()->items.size() != b.dict()->items.size()) return false;
    for (const auto& [key, value] : a.dict()->items) {
      const Value* other = b.dict()->find(key);
      if (!other || !equal(value, *other)) return false;
    }
    return true;
  }
  return a.is_undefined() && b.is_undefined();
}

bool less(const Value& a, const Value& b) {
  if (a.text() && b.text()) return *a.text() < *b.text();
  return number(a) < number(b);
}

double number(const Value& v) {
  if (const bool* b = v.as<bool>()) return *b;
  if (const int64_t* i = v.as<int64_t>()) return double(*i);
  if (const double* d = v.as<double>()) return *d;
  fail_input("expected a number, found {}", v.kind());
}

std::vector<size_t> characters(const std::string& text) {
  std::vector<size_t> out;
  for (size_t i = 0; i < text.size(); ++i)
    if ((uint8_t(text[i]) & 0xC0) != 0x80) out.push_back(i);
  out.push_back(text.size());
  return out;
}

int64_t length(const Value& v) {
  if (v.text()) return int64_t(characters(*v.text()).size()) - 1;
  if (v.list()) return int64_t(v.list()->size());
  if (v.dict()) return int64_t(v.dict()->items.size());
  if (v.is_undefined()) return 0;
  fail_input("{} has no length", v.kind());
}

}  // namespace forja::jinja

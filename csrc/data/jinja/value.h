// SPDX-License-Identifier: Apache-2.0
// The values of a template: those of JSON and Python, and what is undefined.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace forja::jinja {

using Json = nlohmann::ordered_json;

// A template may be made to do harm: what it builds is neither deeper, longer nor larger than this.
inline constexpr int kMaxDepth = 100;                 // of values in values
inline constexpr size_t kMaxItems = 1 << 20;          // of a list
inline constexpr size_t kMaxBytes = size_t(1) << 24;  // of a text

class Value;
struct ListOfDepth;
using List = std::vector<Value>;

struct Undefined {
  std::string name;  // for messages
};
struct None {};

// In the order of insertion.
struct Dict {
  std::vector<std::pair<std::string, Value>> items;
  bool is_namespace = false;  // may be assigned to
  int depth = 1;
  const Value* find(const std::string& key) const;
  void set(const std::string& key, Value value);
};

struct Arguments {
  List positional;
  std::vector<std::pair<std::string, Value>> named;
  // The i-th, or the one of that name; Undefined where it was not given.
  Value get(size_t i, const std::string& name) const;
};
using Function = std::function<Value(const Arguments&)>;

// Lists, dicts and functions are references, as in Python; templates change none but namespaces.
class Value {
 public:
  using Variant =
      std::variant<Undefined, None, bool, int64_t, double, std::string,
                   std::shared_ptr<ListOfDepth>, std::shared_ptr<Dict>, std::shared_ptr<Function>>;
  Value() : data_(Undefined{}) {}
  Value(Undefined u) : data_(std::move(u)) {}
  Value(None) : data_(None{}) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(std::string s) : data_(std::move(s)) {}
  Value(const char* s) : data_(std::string(s)) {}
  Value(List l);
  Value(Dict d) : data_(std::make_shared<Dict>(std::move(d))) {}
  Value(Function f) : data_(std::make_shared<Function>(std::move(f))) {}
  static Value from_json(const Json& json);

  // Null where it is of another kind.
  template <class T>
  const T* as() const {
    return std::get_if<T>(&data_);
  }
  const List* list() const;
  Dict* dict() const { return pointer<Dict>(); }
  const Function* function() const { return pointer<Function>(); }
  const std::string* text() const { return as<std::string>(); }
  bool is_undefined() const { return as<Undefined>() != nullptr; }
  bool is_none() const { return as<None>() != nullptr; }
  bool is_number() const { return as<int64_t>() || as<double>(); }

  int depth() const;  // of lists and mappings in one another
  bool truth() const;
  // As {{ value }} prints it.
  std::string to_string() const;
  // As Python's repr().
  std::string repr() const;
  // As Python's json.dumps(ensure_ascii=False); indent < 0: on one line. Throws for what is no
  // JSON.
  std::string to_json(int indent = -1) const;
  // "a string", for messages
  std::string kind() const;

 private:
  template <class T>
  T* pointer() const {
    const auto* p = as<std::shared_ptr<T>>();
    return p ? p->get() : nullptr;
  }
  void write_json(std::string& out, int indent, int depth) const;

  Variant data_;
};

struct ListOfDepth {
  List items;
  int depth = 1;
};

// Throws where the text is longer than any should be.
const std::string& check_size(const std::string& text);

// Python's ==, and < where both are numbers or both texts; throws for other pairs.
bool equal(const Value& a, const Value& b);
bool less(const Value& a, const Value& b);
double number(const Value& v);
// Python's len().
int64_t length(const Value& v);
// Byte offsets of the characters of a UTF-8 text, and its end.
std::vector<size_t> characters(const std::string& text);

}  // namespace forja::jinja

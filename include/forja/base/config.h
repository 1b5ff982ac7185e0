// SPDX-License-Identifier: Apache-2.0
// One visitor per configuration struct drives parsing, defaults, printing, validation and
// documentation.
//
//   struct OptimizerConfig {
//     double lr = 3e-4;
//     void visit(ConfigVisitor& v) { v.field("lr", lr, "Peak learning rate.", positive()); }
//   };
//
// Reading goes from YAML (file:line:column in every message); a key=value from the command line
// overrides the file.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace YAML {
class Node;
}

namespace forja {

// A check of one value: the text says what is allowed ("greater than 0").
template <class T>
struct Check {
  std::string allowed;
  std::function<bool(const T&)> good;
};
template <class T>
using Checks = std::vector<Check<T>>;

// "greater than 0", "0 or greater", "between a and b" (inclusive), for both integers and reals.
template <class T>
Check<T> positive() {
  return {"greater than 0", [](const T& x) { return x > T(0); }};
}
template <class T>
Check<T> not_negative() {
  return {"0 or greater", [](const T& x) { return x >= T(0); }};
}
Check<int64_t> between(int64_t low, int64_t high);
Check<double> between(double low, double high);
Check<double> fraction();  // 0 <= x < 1
Check<std::string> one_of(std::vector<std::string> names);

class ConfigVisitor;

// Anything with `void visit(ConfigVisitor&)`.
template <class T>
concept Configurable = requires(T& t, ConfigVisitor& v) {
  t.visit(v);
};

class ConfigVisitor {
 public:
  virtual ~ConfigVisitor() = default;

  virtual void field(const char* key, bool& value, const char* doc) = 0;
  virtual void field(const char* key, int64_t& value, const char* doc,
                     const Checks<int64_t>& checks) = 0;
  virtual void field(const char* key, double& value, const char* doc,
                     const Checks<double>& checks) = 0;
  virtual void field(const char* key, std::string& value, const char* doc,
                     const Checks<std::string>& checks) = 0;
  virtual void field(const char* key, std::vector<double>& value, const char* doc) = 0;
  virtual void field(const char* key, std::vector<int64_t>& value, const char* doc) = 0;
  virtual void field(const char* key, std::vector<std::string>& value, const char* doc) = 0;

  // Single checks, for brevity.
  void field(const char* key, int64_t& value, const char* doc, Check<int64_t> check = {}) {
    field(key, value, doc, check.good ? Checks<int64_t>{std::move(check)} : Checks<int64_t>{});
  }
  void field(const char* key, double& value, const char* doc, Check<double> check = {}) {
    field(key, value, doc, check.good ? Checks<double>{std::move(check)} : Checks<double>{});
  }
  void field(const char* key, std::string& value, const char* doc, Check<std::string> check = {}) {
    field(key, value, doc,
          check.good ? Checks<std::string>{std::move(check)} : Checks<std::string>{});
  }

  // A path to a file or folder, made absolute: relative ones are relative to the file that holds
  // them, or to the working directory when they come from the command line. Empty means not given.
  virtual void path(const char* key, std::string& value, const char* doc) = 0;

  // A nested mapping.
  template <Configurable T>
  void section(const char* key, T& value, const char* doc) {
    section_of(key, doc, [&](ConfigVisitor& v) { value.visit(v); });
  }
  // A nested mapping, or the path of a YAML file that holds it.
  template <Configurable T>
  void section_or_file(const char* key, T& value, const char* doc) {
    section_or_file_of(key, doc, [&](ConfigVisitor& v) { value.visit(v); });
  }
  // A list of mappings.
  template <Configurable T>
  void list(const char* key, std::vector<T>& value, const char* doc) {
    list_of(
        key, doc, value.size(), [&](size_t n) { value.resize(n); },
        [&](size_t i, ConfigVisitor& v) {
          if (i < value.size()) return value[i].visit(v);
          T example;
          example.visit(v);
        });
  }

  // A fault found only by looking at several keys; names the key it is about (of this section).
  [[noreturn]] virtual void fault(const char* key, const std::string& message) = 0;
  // True while reading: the only time when checks across keys make sense.
  virtual bool reading() const { return false; }
  // From here on, keys of this section that nobody asks for are no fault (a file written for
  // another program).
  virtual void ignore_unknown() {}
  // True when the input gives this key (of this section); only while reading.
  virtual bool has(const char*) const { return false; }
  // True when the input gives this key a single value, no list and no mapping; only while reading.
  virtual bool is_scalar(const char*) const { return false; }

 protected:
  using Body = std::function<void(ConfigVisitor&)>;
  virtual void section_of(const char* key, const char* doc, const Body& body) = 0;
  virtual void section_or_file_of(const char* key, const char* doc, const Body& body) = 0;
  virtual void list_of(const char* key, const char* doc, size_t size,
                       const std::function<void(size_t)>& resize,
                       const std::function<void(size_t, ConfigVisitor&)>& item) = 0;
};

// Reads `file` and then `overrides` ("a.b=value", value in YAML) into the struct behind `visit`.
// Throws bad_input with file:line:column for: YAML that does not parse, an unknown or doubled key
// (with the nearest known one), a wrong type, a failed check.
void read_config_file(const std::string& file, const std::vector<std::string>& overrides,
                      const std::function<void(ConfigVisitor&)>& visit);
// May a section be in a file of its own?
enum class OtherFiles {
  read,
  refuse,  // of text that may come from anybody
};
// The same from text; `name` stands for the file in messages and relative paths.
void read_config_text(const std::string& text, const std::string& name,
                      const std::vector<std::string>& overrides,
                      const std::function<void(ConfigVisitor&)>& visit,
                      OtherFiles others = OtherFiles::read);

// Every key with its current value, as YAML.
std::string print_config(const std::function<void(ConfigVisitor&)>& visit);

// A Markdown table of every key: name, type, default, meaning, allowed values.
std::string document_config(const std::function<void(ConfigVisitor&)>& visit);

}  // namespace forja

// SPDX-License-Identifier: Apache-2.0
#include <yaml-cpp/yaml.h>

#include "forja/base/config.h"
#include "forja/base/error.h"

namespace forja {
namespace {

// The shortest text that reads back as the same number, always with a point or exponent.
std::string number(double value) {
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";
  return text;
}

class Printer : public ConfigVisitor {
 public:
  explicit Printer(YAML::Emitter& out) : out_(out) {}

  void field(const char* key, bool& value, const char*) override { put(key, value); }
  void field(const char* key, int64_t& value, const char*, const Checks<int64_t>&) override {
    put(key, value);
  }
  void field(const char* key, double& value, const char*, const Checks<double>&) override {
    put(key, number(value));
  }
  void field(const char* key, std::string& value, const char*,
             const Checks<std::string>&) override {
    put(key, value);
  }
  void field(const char* key, std::vector<double>& value, const char*) override {
    sequence(key, value, [](double x) { return number(x); });
  }
  void field(const char* key, std::vector<int64_t>& value, const char*) override {
    sequence(key, value, [](int64_t x) { return x; });
  }
  void field(const char* key, std::vector<std::string>& value, const char*) override {
    sequence(key, value, [](const std::string& x) { return x; });
  }
  void path(const char* key, std::string& value, const char*) override { put(key, value); }
  void fault(const char* key, const std::string& message) override {
    fail_input("{}: {}", key, message);
  }

 protected:
  void section_of(const char* key, const char*, const Body& body) override {
    out_ << YAML::Key << key << YAML::Value << YAML::BeginMap;
    body(*this);
    out_ << YAML::EndMap;
  }
  void section_or_file_of(const char* key, const char* doc, const Body& body) override {
    section_of(key, doc, body);
  }
  void list_of(const char* key, const char*, size_t size, const std::function<void(size_t)>&,
               const std::function<void(size_t, ConfigVisitor&)>& item) override {
    out_ << YAML::Key << key << YAML::Value << YAML::BeginSeq;
    for (size_t i = 0; i < size; ++i) {
      out_ << YAML::BeginMap;
      item(i, *this);
      out_ << YAML::EndMap;
    }
    out_ << YAML::EndSeq;
  }

 private:
  template <class T>
  void put(const char* key, const T& value) {
    out_ << YAML::Key << key << YAML::Value << value;
  }
  template <class T, class Format>
  void sequence(const char* key, const std::vector<T>& value, Format format) {
    out_ << YAML::Key << key << YAML::Value << YAML::Flow << YAML::BeginSeq;
    for (const T& x : value) out_ << format(x);
    out_ << YAML::EndSeq;
  }

  YAML::Emitter& out_;
};

class Documenter : public ConfigVisitor {
 public:
  std::string text() const { return text_; }

  void field(const char* key, bool& value, const char* doc) override {
    row(key, "bool", value ? "true" : "false", doc);
  }
  void field(const char* key, int64_t& value, const char* doc,
             const Checks<int64_t>& checks) override {
    row(key, "int", std::to_string(value), doc, checks);
  }
  void field(const char* key, double& value, const char* doc,
             const Checks<double>& checks) override {
    row(key, "float", number(value), doc, checks);
  }
  void field(const char* key, std::string& value, const char* doc,
             const Checks<std::string>& checks) override {
    row(key, "text", value, doc, checks);
  }
  void field(const char* key, std::vector<double>& value, const char* doc) override {
    row(key, "list of float", fmt::format("{} values", value.size()), doc);
  }
  void field(const char* key, std::vector<int64_t>& value, const char* doc) override {
    row(key, "list of int", fmt::format("{} values", value.size()), doc);
  }
  void field(const char* key, std::vector<std::string>& value, const char* doc) override {
    row(key, "list of text", fmt::format("{} values", value.size()), doc);
  }
  void path(const char* key, std::string& value, const char* doc) override {
    row(key, "path", value, doc);
  }
  void fault(const char* key, const std::string& message) override { fail("{}: {}", key, message); }

 protected:
  void section_of(const char* key, const char* doc, const Body& body) override {
    nested(key, "mapping", doc, "", body);
  }
  void section_or_file_of(const char* key, const char* doc, const Body& body) override {
    nested(key, "mapping or path", doc, "", body);
  }
  void list_of(const char* key, const char* doc, size_t size, const std::function<void(size_t)>&,
               const std::function<void(size_t, ConfigVisitor&)>& item) override {
    nested(key, "list of mappings", doc, "[]", [&](ConfigVisitor& v) { item(size, v); });
  }

 private:
  template <class T = int>
  void row(const std::string& key, const char* type, const std::string& value, const char* doc,
           const Checks<T>& checks = {}) {
    std::string allowed;
    for (const auto& check : checks) allowed += " Allowed: " + check.allowed + ".";
    text_ += fmt::format("| `{}{}` | {} | {} | {}{} |\n", prefix_, key, type,
                         value.empty() ? "" : "`" + value + "`", doc, allowed);
  }
  void nested(const char* key, const char* type, const char* doc, const char* suffix,
              const Body& body) {
    row(key, type, "", doc);
    const std::string outer = prefix_;
    prefix_ += std::string(key) + suffix + ".";
    body(*this);
    prefix_ = outer;
  }

  std::string text_ = "| key | type | default | meaning |\n| --- | --- | --- | --- |\n";
  std::string prefix_;
};

}  // namespace

std::string print_config(const std::function<void(ConfigVisitor&)>& visit) {
  YAML::Emitter out;
  Printer printer(out);
  out << YAML::BeginMap;
  visit(printer);
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string document_config(const std::function<void(ConfigVisitor&)>& visit) {
  Documenter documenter;
  visit(documenter);
  return documenter.text();
}

}  // namespace forja

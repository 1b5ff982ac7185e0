// SPDX-License-Identifier: Apache-2.0
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <set>

#include "forja/base/config.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/text.h"

namespace forja {

Check<int64_t> between(int64_t low, int64_t high) {
  return {fmt::format("between {} and {}", low, high),
          [=](const int64_t& x) { return x >= low && x <= high; }};
}

Check<double> between(double low, double high) {
  return {fmt::format("between {} and {}", low, high),
          [=](const double& x) { return x >= low && x <= high; }};
}

Check<double> fraction() {
  return {"0 or greater and less than 1", [](const double& x) { return x >= 0.0 && x < 1.0; }};
}

Check<std::string> one_of(std::vector<std::string> names) {
  const std::string allowed = "one of " + join(names, ", ");
  return {allowed, [names = std::move(names)](const std::string& x) {
            return std::find(names.begin(), names.end(), x) != names.end();
          }};
}

namespace {

// Where a node came from: a file, or one override of the command line.
struct Origin {
  std::string file;                                     // of the mapping being read
  const std::map<std::string, std::string>* overrides;  // dotted path -> text of the override
  OtherFiles others = OtherFiles::read;
};

class Reader : public ConfigVisitor {
 public:
  Reader(YAML::Node node, std::string path, Origin origin)
      : node_(std::move(node)), path_(std::move(path)), origin_(std::move(origin)) {}

  void field(const char* key, bool& value, const char*) override {
    scalar(key, "true or false", value, [](const std::string& text, bool& out) {
      if (text != "true" && text != "false") return false;
      out = text == "true";
      return true;
    });
  }
  void field(const char* key, int64_t& value, const char*, const Checks<int64_t>& checks) override {
    scalar(key, "a whole number", value, parse_int);
    run_checks(key, value, checks);
  }
  void field(const char* key, double& value, const char*, const Checks<double>& checks) override {
    scalar(key, "a number", value, parse_double);
    run_checks(key, value, checks);
  }
  void field(const char* key, std::string& value, const char*,
             const Checks<std::string>& checks) override {
    scalar(key, "text", value, parse_text);
    run_checks(key, value, checks);
  }
  void field(const char* key, std::vector<double>& value, const char*) override {
    sequence(key, "a list of numbers", value, parse_double);
  }
  void field(const char* key, std::vector<int64_t>& value, const char*) override {
    sequence(key, "a list of whole numbers", value, parse_int);
  }
  void field(const char* key, std::vector<std::string>& value, const char*) override {
    sequence(key, "a list of texts", value, parse_text);
  }
  void path(const char* key, std::string& value, const char*) override {
    scalar(key, "a path", value, parse_text);
    if (has(key) && !value.empty()) value = absolute_path(value, overridden(full(key)));
  }

  void fault(const char* key, const std::string& message) override {
    known_.insert(key);
    const YAML::Node found = node_.IsMap() ? node_[key] : YAML::Node(YAML::NodeType::Undefined);
    fail_input("{}: {}: {}", where(key, found.IsDefined() ? found : node_), full(key), message);
  }
  bool reading() const override { return true; }
  void ignore_unknown() override { ignore_unknown_ = true; }
  bool has(const char* key) const override {
    return node_.IsMap() && node_[key].IsDefined() && !node_[key].IsNull();
  }
  bool is_scalar(const char* key) const override { return has(key) && node_[key].IsScalar(); }

  // After visiting: every key of the input must have been asked for, once.
  void finish() {
    if (!node_.IsMap() || ignore_unknown_) return;
    std::set<std::string> seen;
    for (const auto& entry : node_) {
      const std::string key = entry.first.Scalar();
      if (!known_.count(key)) {
        const std::string near = nearest_name(key, {known_.begin(), known_.end()});
        const std::string hint = near.empty()
                                     ? "known keys: " + join({known_.begin(), known_.end()}, ", ")
                                     : "did you mean \"" + near + "\"?";
        fail_input("{}: unknown key \"{}\"; {}", where(key, entry.first), full(key), hint);
      }
      if (!seen.insert(key).second)
        fail_input("{}: key \"{}\" is given twice", where(key, entry.first), full(key));
    }
  }

 protected:
  void section_of(const char* key, const char*, const Body& body) override {
    known_.insert(key);
    YAML::Node child = has(key) ? node_[key] : YAML::Node(YAML::NodeType::Map);
    if (!child.IsMap()) wrong_type(key, child, "a mapping");
    Reader reader(child, full(key), origin_);
    body(reader);
    reader.finish();
  }

  void section_or_file_of(const char* key, const char* doc, const Body& body) override {
    known_.insert(key);
    const bool is_file = has(key) && node_[key].IsScalar() && origin_.others == OtherFiles::read;
    if (!is_file) return section_of(key, doc, body);
    std::string file = node_[key].Scalar();
    file = absolute_path(file, overridden(full(key)));
    if (!file_exists(file)) {
      fail_input("{}: {}: no such file: {}", where(key, node_[key]), full(key), file);
    }
    YAML::Node child;
    try {
      child = YAML::LoadFile(file);
    } catch (const YAML::Exception& e) {
      fail_input("{}:{}:{}: {}", file, e.mark.line + 1, e.mark.column + 1, e.msg);
    }
    if (!child.IsMap()) fail_input("{}: expected a mapping", file);
    // model.x=... on the command line changes a key of the file.
    const std::string prefix = full(key) + ".";
    for (const auto& [path, text] : *origin_.overrides) {
      if (path.rfind(prefix, 0) == 0) put(child, path.substr(prefix.size()), YAML::Load(text));
    }
    // What is wrong in the file is said to be there, even where the command line names the file.
    std::map<std::string, std::string> inside = *origin_.overrides;
    inside.erase(full(key));
    Reader reader(child, full(key), {file, &inside});
    body(reader);
    reader.finish();
  }

  void list_of(const char* key, const char*, size_t, const std::function<void(size_t)>& resize,
               const std::function<void(size_t, ConfigVisitor&)>& item) override {
    known_.insert(key);
    if (!has(key)) return;
    const YAML::Node list = node_[key];
    if (!list.IsSequence()) wrong_type(key, list, "a list of mappings");
    resize(list.size());
    for (size_t i = 0; i < list.size(); ++i) {
      if (!list[i].IsMap()) wrong_type(key, list[i], "a mapping");
      Reader reader(list[i], fmt::format("{}[{}]", full(key), i), origin_);
      item(i, reader);
      reader.finish();
    }
  }

 public:
  // Sets a dotted path in a tree, creating mappings on the way.
  static void put(YAML::Node node, const std::string& dotted, const YAML::Node& value) {
    const size_t dot = dotted.find('.');
    if (dot == std::string::npos) {
      node[dotted] = value;
      return;
    }
    const std::string head = dotted.substr(0, dot);
    YAML::Node child = node[head];
    if (child.IsDefined() && child.IsScalar()) return;  // a file: applied when the file is read
    if (!child.IsDefined() || !child.IsMap()) node[head] = YAML::Node(YAML::NodeType::Map);
    put(node[head], dotted.substr(dot + 1), value);
  }

 private:
  static bool parse_int(const std::string& text, int64_t& out) {
    std::string digits;
    for (char c : text)
      if (c != '_') digits += c;
    const char* end = digits.data() + digits.size();
    const auto [at, error] =
        std::from_chars(digits.data() + (digits.starts_with('+') ? 1 : 0), end, out);
    return error == std::errc() && at == end;
  }
  static bool parse_double(const std::string& text, double& out) {
    const char* end = text.data() + text.size();
    const auto [at, error] =
        std::from_chars(text.data() + (text.starts_with('+') ? 1 : 0), end, out);
    return error == std::errc() && at == end && std::isfinite(out);
  }
  static bool parse_text(const std::string& text, std::string& out) {
    out = text;
    return true;
  }

  template <class T, class Parse>
  void scalar(const char* key, const char* type, T& value, Parse parse) {
    known_.insert(key);
    if (!has(key)) return;
    const YAML::Node found = node_[key];
    if (!found.IsScalar() || !parse(found.Scalar(), value)) wrong_type(key, found, type);
  }

  template <class T, class Parse>
  void sequence(const char* key, const char* type, std::vector<T>& value, Parse parse) {
    known_.insert(key);
    if (!has(key)) return;
    const YAML::Node found = node_[key];
    if (!found.IsSequence()) wrong_type(key, found, type);
    value.clear();
    for (const YAML::Node& item : found) {
      T parsed{};
      if (!item.IsScalar() || !parse(item.Scalar(), parsed)) wrong_type(key, item, type);
      value.push_back(parsed);
    }
  }

  template <class T>
  void run_checks(const char* key, const T& value, const Checks<T>& checks) {
    for (const Check<T>& check : checks) {
      if (!check.good(value))
        fault(key, fmt::format("expected {}, found {}", check.allowed, value));
    }
  }

  [[noreturn]] void wrong_type(const char* key, const YAML::Node& found, const char* type) {
    const std::string what = found.IsScalar()     ? "\"" + found.Scalar() + "\""
                             : found.IsSequence() ? "a list"
                             : found.IsMap()      ? "a mapping"
                                                  : "nothing";
    fail_input("{}: {}: expected {}, found {}", where(key, found), full(key), type, what);
  }

  std::string full(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }

  // Relative to the file that holds it, or to the working directory when it comes from the command
  // line.
  std::string absolute_path(const std::string& path, bool from_command_line) const {
    namespace fs = std::filesystem;
    return fs::absolute(from_command_line ? path : resolve_path(path, origin_.file))
        .lexically_normal()
        .string();
  }

  bool overridden(const std::string& path) const { return origin_.overrides->count(path) > 0; }

  std::string where(const std::string& key, const YAML::Node& node) const {
    // An override of the key itself, of a section around it, or of something inside it.
    const std::string path = full(key);
    for (const auto& [name, text] : *origin_.overrides) {
      if (name == path || path.rfind(name + ".", 0) == 0 || name.rfind(path + ".", 0) == 0) {
        return fmt::format("command line ({}={})", name, text);
      }
    }
    const YAML::Mark mark = node.Mark();
    if (mark.is_null()) return origin_.file;
    return fmt::format("{}:{}:{}", origin_.file, mark.line + 1, mark.column + 1);
  }

  YAML::Node node_;
  std::string path_;
  Origin origin_;
  std::set<std::string> known_;
  bool ignore_unknown_ = false;
};

}  // namespace

void read_config_text(const std::string& text, const std::string& name,
                      const std::vector<std::string>& overrides,
                      const std::function<void(ConfigVisitor&)>& visit, OtherFiles others) {
  if (int64_t bad = 0; !is_valid_utf8(text, &bad)) {
    const auto at = text.begin() + bad;
    fail_input("{}:{}: not UTF-8: wrong byte 0x{:02x}; expected a YAML file", name,
               std::count(text.begin(), at, '\n') + 1, uint8_t(*at));
  }
  YAML::Node root;
  try {
    root = YAML::Load(text);
  } catch (const YAML::Exception& e) {
    fail_input("{}:{}:{}: {}", name, e.mark.line + 1, e.mark.column + 1, e.msg);
  }
  if (root.IsNull()) root = YAML::Node(YAML::NodeType::Map);
  if (!root.IsMap())
    fail_input("{}: expected a mapping of keys, found {}", name,
               root.IsScalar() ? "text" : "a list");

  std::map<std::string, std::string> parsed;
  for (const std::string& item : overrides) {
    if (!is_valid_utf8(item, nullptr)) fail_input("command line: \"{}\" is not UTF-8", item);
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0) {
      fail_input("command line: expected key=value, found \"{}\"", item);
    }
    const std::string key = item.substr(0, equals), value = item.substr(equals + 1);
    parsed[key] = value;
    try {
      Reader::put(root, key, YAML::Load(value));
    } catch (const YAML::Exception& e) {
      fail_input("command line ({}): {}", item, e.msg);
    }
  }
  Reader reader(root, "", {name, &parsed, others});
  visit(reader);
  reader.finish();
}

void read_config_file(const std::string& file, const std::vector<std::string>& overrides,
                      const std::function<void(ConfigVisitor&)>& visit) {
  read_config_text(read_file(file), file, overrides, visit);
}

}  // namespace forja

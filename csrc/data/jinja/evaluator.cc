// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/jinja/evaluator.h"

#include <cmath>

#include "csrc/data/jinja/builtins.h"
#include "forja/base/error.h"

namespace forja::jinja {
namespace {

constexpr int kMaxCalls = 100;          // of macros, one in another
constexpr int64_t kMaxSteps = 2000000;  // statements and expressions

enum class Flow { on, leave, next };

class Evaluator {
 public:
  explicit Evaluator(const Dict& variables) : frames_{variables, Dict{}} {}

  Rendered run(const std::vector<Node>& nodes) {
    run_nodes(nodes);
    return std::move(out_);
  }

 private:
  // ---- Statements

  Flow run_nodes(const std::vector<Node>& nodes) {
    for (const Node& node : nodes) {
      const Flow flow = run_located(node);
      if (flow != Flow::on) return flow;
    }
    return Flow::on;
  }

  // The innermost line is told.
  Flow run_located(const Node& node) {
    try {
      return run_node(node);
    } catch (const Error& e) {
      if (located_) throw;
      located_ = true;
      fail_input("line {}: {}", node.line, e.what());
    }
  }

  Flow run_node(const Node& node) {
    count_steps();
    switch (node.kind) {
      case Node::Kind::text:
        write(node.name);
        return Flow::on;
      case Node::Kind::output:
        write(value_of(node.expression).to_string());
        return Flow::on;
      case Node::Kind::condition:
        return run_nodes(value_of(node.expression).truth() ? node.body : node.otherwise);
      case Node::Kind::loop:
        run_loop(node);
        return Flow::on;
      case Node::Kind::assignment:
        assign(node);
        return Flow::on;
      case Node::Kind::capture:
        frames_.back().set(node.names[0], captured(node.body));
        return Flow::on;
      case Node::Kind::macro:
        frames_.back().set(node.name, macro(node));
        return Flow::on;
      case Node::Kind::generation: {
        const size_t begin = out_.text.size();
        const Flow flow = run_nodes(node.body);
        out_.generated.emplace_back(begin, out_.text.size());
        return flow;
      }
      case Node::Kind::leave:
        return Flow::leave;
      case Node::Kind::next:
        return Flow::next;
    }
    return Flow::on;
  }

  void write(const std::string& text) {
    out_.text += text;
    check_size(out_.text);
  }

  std::string captured(const std::vector<Node>& nodes) {
    Rendered outer = std::exchange(out_, {});
    run_nodes(nodes);
    return std::exchange(out_, std::move(outer)).text;
  }

  void bind(const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) return frames_.back().set(names[0], value);
    const List parts = items_of(value);
    if (parts.size() != names.size())
      fail_input("{} values for {} names", parts.size(), names.size());
    for (size_t i = 0; i < names.size(); ++i) frames_.back().set(names[i], parts[i]);
  }

  void assign(const Node& node) {
    const Value value = value_of(node.expression);
    if (node.attribute.empty()) return bind(node.names, value);
    Dict* const target = find(node.names[0]).dict();
    if (!target || !target->is_namespace)
      fail_input("{} is no namespace, so it has no attributes to set", node.names[0]);
    target->set(node.attribute, value);
  }

  void run_loop(const Node& node) {
    List items;
    frames_.emplace_back();
    for (const Value& item : items_of(counted(value_of(node.expression)))) {
      if (node.condition) bind(node.names, item);
      if (!node.condition || value_of(*node.condition).truth()) items.push_back(item);
    }
    for (size_t i = 0; i < items.size(); ++i) {
      count_steps(8);  // as much as it costs
      frames_.back() = Dict{};
      frames_.back().set("loop", loop_variable(items, i));
      bind(node.names, items[i]);
      if (run_nodes(node.body) == Flow::leave) break;
    }
    frames_.pop_back();
    if (items.empty()) run_nodes(node.otherwise);
  }

  static Dict loop_variable(const List& items, size_t i) {
    const auto integer = [](size_t n) { return Value(int64_t(n)); };
    Dict loop;
    loop.items = {{"index0", integer(i)},
                  {"index", integer(i + 1)},
                  {"revindex0", integer(items.size() - 1 - i)},
                  {"revindex", integer(items.size() - i)},
                  {"first", Value(i == 0)},
                  {"last", Value(i + 1 == items.size())},
                  {"length", integer(items.size())},
                  {"previtem", i > 0 ? items[i - 1] : Value(Undefined{"previtem"})},
                  {"nextitem", i + 1 < items.size() ? items[i + 1] : Value(Undefined{"nextitem"})}};
    return loop;
  }

  // Sees the template's own variables, not the caller's. The tree outlives it.
  Value macro(const Node& node) {
    return Function([this, &node](const Arguments& given) -> Value {
      if (++calls_ > kMaxCalls) fail_input("macros call each other more than {} deep", kMaxCalls);
      std::vector<Dict> caller(frames_.begin() + 2, frames_.end());
      frames_.resize(2);
      frames_.emplace_back();
      for (size_t i = 0; i < node.names.size(); ++i) {
        Value value = given.get(i, node.names[i]);
        for (const auto& [name, expression] : node.defaults)
          if (value.is_undefined() && name == node.names[i]) value = value_of(expression);
        frames_.back().set(node.names[i], value);
      }
      std::string text = captured(node.body);
      frames_.resize(2);
      frames_.insert(frames_.end(), caller.begin(), caller.end());
      --calls_;
      return text;
    });
  }

  // ---- Expressions

  Value find(const std::string& name) const {
    for (auto frame = frames_.rbegin(); frame != frames_.rend(); ++frame)
      if (const Value* value = frame->find(name)) return *value;
    return find_function(name);
  }

  Arguments arguments_of(const Expression& e, size_t first) {
    Arguments out;
    for (size_t i = first; i < e.parts.size(); ++i) out.positional.push_back(value_of(e.parts[i]));
    for (const auto& [name, part] : e.named) out.named.emplace_back(name, value_of(part));
    return out;
  }

  // Neither does a template go on without end.
  void count_steps(int64_t n = 1) {
    steps_ += n;
    if (steps_ > kMaxSteps) fail_input("more than {} steps", kMaxSteps);
  }
  // What is gone through as a whole.
  const Value& counted(const Value& v) {
    if (v.list()) count_steps(int64_t(v.list()->size()));
    if (v.text()) count_steps(int64_t(v.text()->size() / 64));
    return v;
  }

  Value value_of(const Expression& e) {
    count_steps();
    using Kind = Expression::Kind;
    switch (e.kind) {
      case Kind::constant:
        return e.value;
      case Kind::variable:
        return find(e.name);
      case Kind::list: {
        List list;
        for (const Expression& part : e.parts) list.push_back(value_of(part));
        return list;
      }
      case Kind::dict:
        return dict_of(e);
      case Kind::attribute:
        return attribute_of(value_of(e.parts[0]), e.name);
      case Kind::item:
        return item_of(value_of(e.parts[0]), value_of(e.parts[1]));
      case Kind::slice:
        return slice_of(e);
      case Kind::call:
        return call(e);
      case Kind::filter:
        return apply_filter(e.name, counted(value_of(e.parts[0])), arguments_of(e, 1));
      case Kind::test:
        return apply_test(e.name, value_of(e.parts[0]), arguments_of(e, 1));
      case Kind::unary:
        return unary(e);
      case Kind::binary:
        return binary(e);
      case Kind::conditional:
        return value_of(e.parts[value_of(e.parts[0]).truth() ? 1 : 2]);
    }
    return {};
  }

  Value dict_of(const Expression& e) {
    Dict dict;
    for (size_t i = 0; i + 1 < e.parts.size(); i += 2) {
      const Value key = value_of(e.parts[i]);
      if (!key.text()) fail_input("a mapping's key is {}: expected a string", key.kind());
      dict.set(*key.text(), value_of(e.parts[i + 1]));
    }
    return dict;
  }

  Value call(const Expression& e) {
    const Expression& called = e.parts[0];
    if (called.kind == Expression::Kind::attribute) {
      const Value object = counted(value_of(called.parts[0]));
      const Value* own = object.dict() ? object.dict()->find(called.name) : nullptr;
      if (!own || !own->function()) return call_method(called.name, object, arguments_of(e, 1));
      return (*own->function())(arguments_of(e, 1));
    }
    const Value function = value_of(called);
    if (!function.function()) fail_input("{} is called", function.kind());
    return (*function.function())(arguments_of(e, 1));
  }

  static Value item_of(const Value& object, const Value& key) {
    if (key.text()) return attribute_of(object, *key.text());
    if (object.is_undefined()) fail_input("{} has no items", object.kind());
    const int64_t* index = key.as<int64_t>();
    if (!index || object.dict()) return Undefined{"item"};
    List of_text;
    if (!object.list()) of_text = items_of(object);
    const List& items = object.list() ? *object.list() : of_text;
    const int64_t size = int64_t(items.size()), i = *index < 0 ? *index + size : *index;
    return i >= 0 && i < size ? items[size_t(i)] : Value(Undefined{"item"});
  }

  // As Python: bounds outside are cut.
  Value slice_of(const Expression& e) {
    const Value object = counted(value_of(e.parts[0]));
    if (!object.text() && !object.list()) fail_input("a part of {}", object.kind());
    const List items = items_of(object);
    const int64_t size = int64_t(items.size());
    const auto bound = [&](size_t part, int64_t otherwise) {
      const Value v = value_of(e.parts[part]);
      return v.is_none() ? otherwise : int64_t(number(v));
    };
    const int64_t step = bound(3, 1);
    if (step == 0) fail_input("a slice with a step of 0");
    const int64_t lowest = step > 0 ? 0 : -1, highest = step > 0 ? size : size - 1;
    const auto cut = [&](size_t part, int64_t otherwise) {
      if (value_of(e.parts[part]).is_none()) return otherwise;
      const int64_t given = bound(part, 0), i = given < 0 ? given + size : given;
      return std::min(std::max(i, lowest), highest);
    };
    const int64_t begin = cut(1, step > 0 ? lowest : highest);
    const int64_t end = cut(2, step > 0 ? highest : lowest);
    List out;
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step)
      out.push_back(items[size_t(i)]);
    if (!object.text()) return out;
    std::string text;
    for (const Value& c : out) text += *c.text();
    return text;
  }

  Value unary(const Expression& e) {
    const Value v = value_of(e.parts[0]);
    if (e.name == "not") return !v.truth();
    if (e.name == "+") return v;
    return v.as<int64_t>() ? Value(-*v.as<int64_t>()) : Value(-number(v));
  }

  Value binary(const Expression& e) {
    const std::string& op = e.name;
    const Value a = value_of(e.parts[0]);
    if (op == "and") return a.truth() ? value_of(e.parts[1]) : a;
    if (op == "or") return a.truth() ? a : value_of(e.parts[1]);
    const Value b = value_of(e.parts[1]);
    counted(a);
    counted(b);
    if (op == "==") return equal(a, b);
    if (op == "!=") return !equal(a, b);
    if (op == "<") return less(a, b);
    if (op == ">") return less(b, a);
    if (op == "<=") return !less(b, a);
    if (op == ">=") return !less(a, b);
    if (op == "in") return contains(b, a);
    if (op == "not in") return !contains(b, a);
    if (op == "~") return check_size(a.to_string() + b.to_string());
    if (op == "+" && a.text() && b.text()) return check_size(*a.text() + *b.text());
    if (op == "+" && a.list() && b.list()) {
      List both = *a.list();
      both.insert(both.end(), b.list()->begin(), b.list()->end());
      return both;
    }
    return arithmetic(op, a, b);
  }

  static Value arithmetic(const std::string& op, const Value& a, const Value& b) {
    const auto is_number = [](const Value& v) { return v.is_number() || v.as<bool>(); };
    if (!is_number(a) || !is_number(b)) fail_input("{} {} {}", a.kind(), op, b.kind());
    const double x = number(a), y = number(b);
    if ((op == "/" || op == "//" || op == "%") && y == 0.0) fail_input("a division by 0");
    if (op == "/") return x / y;
    const bool integers = !a.as<double>() && !b.as<double>();
    const double result = op == "+"    ? x + y
                          : op == "-"  ? x - y
                          : op == "*"  ? x * y
                          : op == "//" ? std::floor(x / y)
                          : op == "%"  ? x - y * std::floor(x / y)
                                       : std::nan("");
    if (!integers) return result;
    if (std::fabs(result) > 9e15) fail_input("{} {} {} is out of range", x, op, y);
    return int64_t(result);
  }

  // What was given, the template's own, and those of loops and macros.
  std::vector<Dict> frames_;
  Rendered out_;
  bool located_ = false;
  int calls_ = 0;
  int64_t steps_ = 0;
};

}  // namespace

Rendered render(const std::vector<Node>& nodes, const Dict& variables) {
  return Evaluator(variables).run(nodes);
}

}  // namespace forja::jinja

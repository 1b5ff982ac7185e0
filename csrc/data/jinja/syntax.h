// SPDX-License-Identifier: Apache-2.0
// A template as a tree. Grammar: https://jinja.palletsprojects.com, the parts that published chat
// templates use; everything else is refused by its name.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "csrc/data/jinja/value.h"

namespace forja::jinja {

struct NamedExpression;

struct Expression {
  enum class Kind {
    constant,    // value
    variable,    // name
    list,        // parts
    dict,        // parts: key, value, key, value
    attribute,   // parts[0].name
    item,        // parts[0][parts[1]]
    slice,       // parts[0][parts[1]:parts[2]:parts[3]], none where left out
    call,        // parts[0](parts[1...], named)
    filter,      // parts[0] | name(parts[1...], named)
    test,        // parts[0] is name(parts[1...])
    unary,       // name parts[0]: "not", "-", "+"
    binary,      // parts[0] name parts[1]: "and", "or", "==", "not in", "~", ...
    conditional  // parts[1] if parts[0] else parts[2]
  } kind = Kind::constant;
  int line = 0;
  std::string name;
  Value value;
  std::vector<Expression> parts;
  std::vector<NamedExpression> named;
};

struct NamedExpression {
  std::string name;
  Expression expression;
};

struct Node {
  enum class Kind {
    text,        // name
    output,      // {{ expression }}
    condition,   // if expression: body, else: otherwise
    loop,        // for names in expression (if condition): body, else: otherwise
    assignment,  // set names = expression; with attribute: names[0].attribute
    capture,     // set names[0]: body
    macro,       // name(names = defaults): body
    generation,  // body: what the model says
    leave,       // break
    next         // continue
  } kind = Kind::text;
  int line = 0;
  std::string name, attribute;
  std::vector<std::string> names;
  Expression expression;
  std::unique_ptr<Expression> condition;
  std::vector<NamedExpression> defaults;
  std::vector<Node> body, otherwise;
};

// With Jinja's trim_blocks and lstrip_blocks, as transformers reads them. Throws bad_input with the
// line.
std::vector<Node> parse(const std::string& source);

}  // namespace forja::jinja

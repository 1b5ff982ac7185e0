// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "csrc/data/jinja/lexer.h"
#include "csrc/data/jinja/syntax.h"
#include "forja/base/error.h"

namespace forja::jinja {
namespace {

using Kind = Expression::Kind;

class Parser {
 public:
  explicit Parser(const std::string& source) : tokens_(tokens_of(source)) {}

  std::vector<Node> run() {
    std::vector<Node> nodes = body({});
    if (peek().kind != Token::Kind::end) refuse("an end of the template");
    return nodes;
  }

 private:
  static constexpr int kMaxDepth = 200;  // of nested blocks and brackets

  // ---- Tokens

  const Token& peek(size_t ahead = 0) const {
    return tokens_[std::min(at_ + ahead, tokens_.size() - 1)];
  }
  Token take() { return tokens_[std::min(at_++, tokens_.size() - 1)]; }
  bool sees(const char* text, size_t ahead = 0) const {
    const Token& t = peek(ahead);
    return (t.kind == Token::Kind::sign || t.kind == Token::Kind::name) && t.text == text;
  }
  bool accept(const char* text) {
    if (!sees(text)) return false;
    ++at_;
    return true;
  }
  void expect(const char* text) {
    if (!accept(text)) refuse(fmt::format("\"{}\"", text));
  }
  std::string expect_name() {
    if (peek().kind != Token::Kind::name) refuse("a name");
    return take().text;
  }
  [[noreturn]] void refuse(const std::string& wanted) const {
    const Token& t = peek();
    const char* const where = t.kind == Token::Kind::end ? "the end of the template"
                              : t.text.empty()           ? "the end of the tag"
                                                         : t.text.c_str();
    fail_input("line {}: expected {}, found {}", t.line, wanted, where);
  }
  struct Deeper {
    explicit Deeper(Parser& p) : parser(p) {
      if (++parser.depth_ > kMaxDepth)
        fail_input("line {}: nested more than {} deep", parser.peek().line, kMaxDepth);
    }
    ~Deeper() { --parser.depth_; }
    Parser& parser;
  };

  // ---- Statements

  // Up to a block that begins with one of `ends`, whose name is not taken.
  std::vector<Node> body(const std::vector<std::string>& ends) {
    const Deeper deeper(*this);
    std::vector<Node> nodes;
    while (true) {
      const Token& t = peek();
      if (t.kind == Token::Kind::end) {
        if (!ends.empty()) fail_input("line {}: {} is missing", t.line, ends.back());
        return nodes;
      }
      if (t.kind == Token::Kind::block_begin &&
          std::find(ends.begin(), ends.end(), peek(1).text) != ends.end()) {
        ++at_;
        return nodes;
      }
      nodes.push_back(node());
    }
  }

  Node node() {
    const Token t = take();
    Node out;
    out.line = t.line;
    if (t.kind == Token::Kind::text) {
      out.name = t.text;
    } else if (t.kind == Token::Kind::print_begin) {
      out.kind = Node::Kind::output;
      out.expression = tuple();
      if (take().kind != Token::Kind::print_end) {
        --at_;
        refuse("}}");
      }
    } else {
      statement(out);
    }
    return out;
  }

  void end_block() {
    if (take().kind == Token::Kind::block_end) return;
    --at_;
    refuse("%}");
  }

  void statement(Node& out) {
    const std::string name = expect_name();
    if (name == "if") {
      condition(out);
    } else if (name == "for") {
      loop(out);
    } else if (name == "set") {
      assignment(out);
    } else if (name == "macro") {
      macro(out);
    } else if (name == "generation") {
      out.kind = Node::Kind::generation;
      end_block();
      out.body = body({"endgeneration"});
      close("endgeneration");
    } else if (name == "break" || name == "continue") {
      out.kind = name == "break" ? Node::Kind::leave : Node::Kind::next;
      end_block();
    } else {
      fail_input("line {}: the statement \"{}\" is not supported", out.line, name);
    }
  }

  void close(const char* name) {
    expect(name);
    end_block();
  }

  void condition(Node& out) {
    out.kind = Node::Kind::condition;
    out.expression = expression();
    end_block();
    out.body = body({"elif", "else", "endif"});
    if (accept("elif")) {
      Node& rest = out.otherwise.emplace_back();
      rest.line = peek().line;
      condition(rest);  // which takes the endif
      return;
    }
    if (accept("else")) {
      end_block();
      out.otherwise = body({"endif"});
    }
    close("endif");
  }

  std::vector<std::string> targets() {
    std::vector<std::string> names{expect_name()};
    while (accept(",")) names.push_back(expect_name());
    return names;
  }

  void loop(Node& out) {
    out.kind = Node::Kind::loop;
    const bool brackets = accept("(");
    out.names = targets();
    if (brackets) expect(")");
    expect("in");
    out.expression = disjunction();  // an if after it filters
    if (accept("if")) out.condition = std::make_unique<Expression>(expression());
    if (sees("recursive")) fail_input("line {}: recursive loops are not supported", out.line);
    end_block();
    out.body = body({"else", "endfor"});
    if (accept("else")) {
      end_block();
      out.otherwise = body({"endfor"});
    }
    close("endfor");
  }

  void assignment(Node& out) {
    out.kind = Node::Kind::assignment;
    out.names = targets();
    if (out.names.size() == 1 && accept(".")) out.attribute = expect_name();
    if (accept("=")) {
      out.expression = tuple();
      return end_block();
    }
    out.kind = Node::Kind::capture;
    end_block();
    out.body = body({"endset"});
    close("endset");
  }

  void macro(Node& out) {
    out.kind = Node::Kind::macro;
    out.name = expect_name();
    expect("(");
    while (!accept(")")) {
      out.names.push_back(expect_name());
      if (accept("=")) out.defaults.push_back({out.names.back(), expression()});
      if (!sees(")")) expect(",");
    }
    end_block();
    out.body = body({"endmacro"});
    close("endmacro");
  }

  // ---- Expressions, from the weakest binding to the strongest

  Expression make(Kind kind, std::string name, std::vector<Expression> parts) const {
    Expression e;
    e.kind = kind;
    e.line = peek().line;
    e.name = std::move(name);
    e.parts = std::move(parts);
    return e;
  }
  Expression constant(Value value) const {
    Expression e = make(Kind::constant, "", {});
    e.value = std::move(value);
    return e;
  }
  template <class... Parts>
  Expression combine(Kind kind, std::string name, Parts... parts) const {
    std::vector<Expression> list;
    (list.push_back(std::move(parts)), ...);
    return make(kind, std::move(name), std::move(list));
  }

  // a, b without brackets
  Expression tuple() {
    Expression first = expression();
    if (!sees(",")) return first;
    Expression list = combine(Kind::list, "", std::move(first));
    while (accept(",")) list.parts.push_back(expression());
    return list;
  }

  Expression expression() {
    const Deeper deeper(*this);
    Expression value = disjunction();
    while (accept("if")) {
      Expression wanted = disjunction();
      Expression other = accept("else") ? expression() : constant(Undefined{"no else"});
      value = combine(Kind::conditional, "", std::move(wanted), std::move(value), std::move(other));
    }
    return value;
  }

  Expression disjunction() {
    Expression left = conjunction();
    while (accept("or")) left = combine(Kind::binary, "or", std::move(left), conjunction());
    return left;
  }
  Expression conjunction() {
    Expression left = negation();
    while (accept("and")) left = combine(Kind::binary, "and", std::move(left), negation());
    return left;
  }
  Expression negation() {
    const Deeper deeper(*this);
    if (accept("not")) return combine(Kind::unary, "not", negation());
    return comparison();
  }

  // The sign of a binary operator of `signs` that comes next, taken; "" where none does.
  template <size_t N>
  std::string operator_of(const std::array<const char*, N>& signs) {
    for (const char* sign : signs)
      if (accept(sign)) return sign;
    return "";
  }

  // a < b < c is a < b and b < c.
  Expression comparison() {
    static constexpr std::array<const char*, 6> kSigns = {"==", "!=", "<=", ">=", "<", ">"};
    Expression left = sum();
    Expression result;
    bool has_result = false;
    while (true) {
      std::string sign = operator_of(kSigns);
      if (sign.empty() && sees("not") && sees("in", 1)) {
        at_ += 2;
        sign = "not in";
      } else if (sign.empty() && accept("in")) {
        sign = "in";
      }
      if (sign.empty()) return has_result ? result : left;
      Expression right = sum();
      Expression pair = combine(Kind::binary, sign, std::move(left), right);
      result = has_result ? combine(Kind::binary, "and", std::move(result), std::move(pair))
                          : std::move(pair);
      has_result = true;
      left = std::move(right);
    }
  }

  Expression sum() {
    Expression left = concatenation();
    while (true) {
      const std::string sign = operator_of(std::array<const char*, 2>{"+", "-"});
      if (sign.empty()) return left;
      left = combine(Kind::binary, sign, std::move(left), concatenation());
    }
  }
  Expression concatenation() {
    Expression left = product();
    while (accept("~")) left = combine(Kind::binary, "~", std::move(left), product());
    return left;
  }
  Expression product() {
    Expression left = sign();
    while (true) {
      const std::string op = operator_of(std::array<const char*, 4>{"*", "//", "/", "%"});
      if (op.empty()) return left;
      left = combine(Kind::binary, op, std::move(left), sign());
    }
  }
  // A filter after -x is of all of it.
  Expression sign(bool with_filters = true) {
    const Deeper deeper(*this);
    const std::string op = operator_of(std::array<const char*, 2>{"-", "+"});
    Expression value = postfix(op.empty() ? primary() : combine(Kind::unary, op, sign(false)));
    return with_filters ? filters(std::move(value)) : value;
  }

  Expression primary() {
    const Token t = take();
    switch (t.kind) {
      case Token::Kind::string: {
        std::string text = t.text;
        while (peek().kind == Token::Kind::string) text += take().text;
        return constant(text);
      }
      case Token::Kind::number:
        return number(t);
      case Token::Kind::name:
        return name(t.text);
      case Token::Kind::sign:
        if (t.text == "(") return brackets();
        if (t.text == "[") return list();
        if (t.text == "{") return dict();
        [[fallthrough]];
      default:
        --at_;
        refuse("a value");
    }
  }

  Expression number(const Token& t) const {
    try {
      if (t.text.find('.') == std::string::npos) return constant(int64_t(std::stoll(t.text)));
      return constant(std::stod(t.text));
    } catch (const std::exception&) {
      fail_input("line {}: {} is out of range", t.line, t.text);
    }
  }
  Expression name(const std::string& text) const {
    if (text == "true" || text == "True") return constant(true);
    if (text == "false" || text == "False") return constant(false);
    if (text == "none" || text == "None") return constant(None{});
    return make(Kind::variable, text, {});
  }
  Expression brackets() {
    Expression inner = sees(")") ? make(Kind::list, "", {}) : tuple();
    expect(")");
    return inner;
  }
  Expression list() {
    Expression out = make(Kind::list, "", {});
    while (!accept("]")) {
      out.parts.push_back(expression());
      if (!sees("]")) expect(",");
    }
    return out;
  }
  Expression dict() {
    Expression out = make(Kind::dict, "", {});
    while (!accept("}")) {
      out.parts.push_back(expression());
      expect(":");
      out.parts.push_back(expression());
      if (!sees("}")) expect(",");
    }
    return out;
  }

  Expression postfix(Expression e) {
    while (true) {
      if (accept(".")) {
        e = combine(Kind::attribute, expect_name(), std::move(e));
      } else if (accept("[")) {
        e = subscript(std::move(e));
      } else if (accept("(")) {
        Expression call = combine(Kind::call, "", std::move(e));
        arguments(call);
        e = std::move(call);
      } else {
        return e;
      }
    }
  }

  Expression subscript(Expression e) {
    std::array<Expression, 3> bounds = {constant(None{}), constant(None{}), constant(None{})};
    size_t i = 0;
    bool is_slice = false;
    while (!accept("]")) {
      if (accept(":")) {
        is_slice = true;
        if (++i > 2) refuse("]");
      } else {
        bounds[i] = expression();
      }
    }
    if (!is_slice) return combine(Kind::item, "", std::move(e), std::move(bounds[0]));
    return combine(Kind::slice, "", std::move(e), std::move(bounds[0]), std::move(bounds[1]),
                   std::move(bounds[2]));
  }

  // After the opening bracket.
  void arguments(Expression& call) {
    while (!accept(")")) {
      if (peek().kind == Token::Kind::name && sees("=", 1)) {
        const std::string given = take().text;
        ++at_;
        call.named.push_back({given, expression()});
      } else {
        call.parts.push_back(expression());
      }
      if (!sees(")")) expect(",");
    }
  }

  Expression filters(Expression e) {
    while (true) {
      if (accept("|")) {
        e = combine(Kind::filter, expect_name(), std::move(e));
        if (accept("(")) arguments(e);
        e = postfix(std::move(e));
      } else if (accept("is")) {
        const bool negated = accept("not");
        e = combine(Kind::test, expect_name(), std::move(e));
        test_argument(e);
        if (negated) e = combine(Kind::unary, "not", std::move(e));
      } else {
        return e;
      }
    }
  }

  // x is divisibleby(3), or without brackets
  void test_argument(Expression& test) {
    if (accept("(")) return arguments(test);
    const Token& t = peek();
    const bool begins_value =
        t.kind == Token::Kind::string || t.kind == Token::Kind::number || sees("[") || sees("{");
    static constexpr std::array<const char*, 6> kWords = {"else", "or", "and", "if", "is", "not"};
    const bool is_word =
        std::any_of(kWords.begin(), kWords.end(), [this](const char* w) { return sees(w); }) ||
        sees("in");
    if (begins_value || (t.kind == Token::Kind::name && !is_word))
      test.parts.push_back(postfix(primary()));
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<Node> parse(const std::string& source) { return Parser(source).run(); }

}  // namespace forja::jinja

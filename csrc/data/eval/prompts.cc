// SPDX-License-Identifier: Apache-2.0
// From the fields of a document to its texts.
#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include "csrc/data/eval/documents.h"
#include "csrc/data/eval/python_random.h"
#include "csrc/data/jinja/evaluator.h"
#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/text.h"
#include "forja/data/eval_task.h"
#include "forja/data/text_source.h"

namespace forja {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr uint32_t kFewshotSeed = 1234;  // lm-evaluation-harness's
constexpr const char* kFewshotDelimiter = "\n\n";
constexpr const char* kSetName = "set_name";  // a variable beside the fields

// The variables that an expression reads.
void add_variables(const jinja::Expression& e, std::set<std::string>& names) {
  using Kind = jinja::Expression::Kind;
  if (e.kind == Kind::variable) names.insert(e.name);
  for (size_t i = 0; i < e.parts.size(); ++i) {
    const bool is_function =
        e.kind == Kind::call && i == 0 && e.parts[0].kind == Kind::variable;  // range(3)
    if (!is_function) add_variables(e.parts[i], names);
  }
  for (const jinja::NamedExpression& named : e.named) add_variables(named.expression, names);
}

class Template {
 public:
  // Jinja drops a line break at the end of a template; here it stays.
  explicit Template(const std::string& source)
      : nodes_(jinja::parse(source.ends_with('\n') ? source + "\n" : source)) {
    // What a template with statements reads may depend on the document.
    for (const jinja::Node& node : nodes_)
      if (node.kind == jinja::Node::Kind::output) add_variables(node.expression, needed_);
  }
  std::string render(const jinja::Dict& variables) const {
    for (const std::string& name : needed_) {
      if (variables.find(name)) continue;
      std::vector<std::string> known;
      for (const auto& [key, value] : variables.items)
        if (key != kSetName) known.push_back(key);
      fail_input("no field \"{}\"; found: {}", name, join(known, ", "));
    }
    return jinja::render(nodes_, variables).text;
  }

 private:
  std::vector<jinja::Node> nodes_;
  std::set<std::string> needed_;
};

// The texts of one document, without examples.
struct Texts {
  std::string context;
  std::vector<std::string> choices;
  int64_t gold = 0;    // of choices
  std::string answer;  // the choice that is right, or the target
};

// The number of a choice, or the choice itself.
int64_t gold_of(const std::string& target, const std::vector<std::string>& choices) {
  int64_t gold = -1;
  const char* end = target.data() + target.size();
  const auto [stopped, error] = std::from_chars(target.data(), end, gold);
  if (error != std::errc() || stopped != end)
    gold = std::find(choices.begin(), choices.end(), target) - choices.begin();
  if (gold < 0 || gold >= int64_t(choices.size()))
    fail_input("the answer is \"{}\": expected a number from 0 to {}, or one of the choices",
               target, choices.size() - 1);
  return gold;
}

class Prompter {
 public:
  explicit Prompter(const EvalTask& task)
      : task_(task),
        description_(task.description),
        text_(task.doc_to_text),
        target_(task.doc_to_target) {
    for (const std::string& choice : task.doc_to_choice) choices_.emplace_back(choice);
  }

  std::string description(const jinja::Dict& variables) const {
    return description_.render(variables);
  }
  Texts texts(const jinja::Dict& variables) const {
    Texts out;
    out.context = text_.render(variables);
    for (const Template& choice : choices_) out.choices.push_back(choice.render(variables));
    out.answer = target_.render(variables);
    if (task_.output_type == "multiple_choice") {
      out.gold = gold_of(out.answer, out.choices);
      out.answer = out.choices[size_t(out.gold)];
    }
    return out;
  }

 private:
  const EvalTask& task_;
  Template description_, text_, target_;
  std::vector<Template> choices_;
};

// The name of a file without the end that all files of the task have.
std::string set_name(const EvalTask& task, const std::string& file) {
  const std::string name = fs::path(file).filename().string();
  const bool known = !task.file.empty() && name.ends_with(task.file);
  return known ? name.substr(0, name.size() - task.file.size()) : fs::path(file).stem().string();
}

template <class Body>
auto at_line(const std::string& file, int64_t line, const EvalTask& task, const Body& body) {
  try {
    return body();
  } catch (const Error& e) {
    fail_input("{}:{}: task {}: {}", file, line, task.name, e.what());
  }
}

// What stands before each document of a file.
class Examples {
 public:
  Examples(const EvalTask& task, const Prompter& prompter, const std::string& file,
           const std::string& name, int64_t count)
      : task_(task), count_(size_t(count)), random_(kFewshotSeed) {
    if (count == 0) return;
    const std::string from =
        task.fewshot_file.empty() ? "" : sibling_file(file, task.file, task.fewshot_file);
    if (from.empty())
      fail_input("task {} has no file with examples beside {}: use --num-fewshot 0", task.name,
                 file);
    if (!file_exists(from))
      fail_input(
          "task {} takes its {} examples from {}, which is not there; --num-fewshot 0 needs "
          "none",
          task.name, count, from);
    for (const RawFields& raw : read_fields(task, from, 0)) {
      jinja::Dict variables = *jinja::Value::from_json(raw.fields).dict();
      variables.set(kSetName, name);
      texts_.push_back(at_line(from, raw.line, task, [&] {
        const Texts t = prompter.texts(variables);
        return t.context + task.target_delimiter + t.answer + kFewshotDelimiter;
      }));
    }
    if (texts_.size() < count_)
      fail_input("{} has {} documents, {} examples are wanted", from, texts_.size(), count);
  }

  // Of the next document: they are drawn one document after the other.
  std::string next() {
    std::string out;
    if (count_ == 0) return out;
    if (task_.fewshot_sampler == "first_n") {
      for (size_t i = 0; i < count_; ++i) out += texts_[i];
    } else {
      for (const size_t i : random_.sample(texts_.size(), count_)) out += texts_[i];
    }
    return out;
  }

 private:
  const EvalTask& task_;
  size_t count_;
  std::vector<std::string> texts_;
  PythonRandom random_;
};

EvalDocument make_document(const EvalTask& task, const Prompter& prompter, Examples& examples,
                           const std::string& name, RawFields raw) {
  jinja::Dict variables = *jinja::Value::from_json(raw.fields).dict();
  variables.set(kSetName, name);
  Texts texts = prompter.texts(variables);
  EvalDocument out;
  out.line = raw.line;
  out.context = prompter.description(variables) + examples.next() + texts.context;
  out.gold = texts.gold;
  if (task.output_type == "multiple_choice") {
    for (const std::string& choice : texts.choices)
      out.continuations.push_back(task.target_delimiter + choice);
  } else if (task.output_type == "loglikelihood") {
    out.continuations.push_back(task.target_delimiter + texts.answer);
  } else {
    out.target = texts.answer;
  }
  out.fields = std::move(raw.fields);
  return out;
}

EvalDocumentSet read_set(const EvalTask& task, const std::string& file,
                         const EvalDataOptions& options) {
  const Prompter prompter(task);
  const std::string name = set_name(task, file);
  Examples examples(task, prompter, file, name,
                    options.num_fewshot >= 0 ? options.num_fewshot : task.num_fewshot);
  EvalDocumentSet set{name, file, {}};
  for (RawFields& raw : read_fields(task, file, options.limit)) {
    const int64_t line = raw.line;
    set.documents.push_back(at_line(file, line, task, [&] {
      return make_document(task, prompter, examples, name, std::move(raw));
    }));
  }
  return set;
}

// Whole texts, of which every one is a document.
EvalDocumentSet read_texts(const EvalTask& task, const std::string& path,
                           const EvalDataOptions& data) {
  const TextSourceOptions options{.text_field = data.text_field, .document_separator = ""};
  const int64_t limit = data.limit;
  TextSource source({path}, options);
  EvalDocumentSet set{task.name, path, {}};
  RawDocument raw;
  while ((limit == 0 || int64_t(set.documents.size()) < limit) && source.next(&raw)) {
    EvalDocument document;
    document.line = raw.line;
    document.continuations = {document_text(std::move(raw), options)};
    document.fields = Json::object();
    set.documents.push_back(std::move(document));
  }
  if (set.documents.empty()) fail_input("{} holds no text", path);
  return set;
}

std::vector<std::string> files_in(const EvalTask& task, const std::string& folder) {
  if (task.file.empty())
    fail_input(
        "{} is a folder, and task {} does not say how the names of its files end (key "
        "file): name a file",
        folder, task.name);
  std::vector<std::string> files;
  for (const auto& item : fs::recursive_directory_iterator(folder)) {
    const std::string name = item.path().filename().string();
    if (item.is_regular_file() && !name.starts_with('.') && name.ends_with(task.file))
      files.push_back(item.path().string());
  }
  if (files.empty())
    fail_input("no data of task {} in {}: expected files whose names end in {}", task.name, folder,
               task.file);
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

std::vector<EvalDocumentSet> read_eval_sets(const EvalTask& task, const std::string& path,
                                            const EvalDataOptions& options) {
  if (!file_exists(path)) fail_input("there is no {}, the data of task {}", path, task.name);
  if (task.output_type == "loglikelihood_rolling") return {read_texts(task, path, options)};
  const std::vector<std::string> files =
      fs::is_directory(path) ? files_in(task, path) : std::vector<std::string>{path};
  std::vector<EvalDocumentSet> sets;
  for (const std::string& file : files) sets.push_back(read_set(task, file, options));
  return sets;
}

}  // namespace forja

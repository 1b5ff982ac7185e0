// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/eval/documents.h"

#include "forja/base/error.h"
#include "forja/base/file.h"
#include "forja/base/json.h"
#include "forja/base/text.h"

namespace forja {
namespace {

using Json = nlohmann::ordered_json;

// One line at a time, without its end; and what is left, for records that span lines.
class Lines {
 public:
  Lines(const std::string& file, std::string text) : file_(file), text_(std::move(text)) {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // a byte order mark
    int64_t bad = 0;
    if (is_valid_utf8(text_, &bad)) return;
    fail_input("{}: invalid UTF-8 at byte offset {}", file, bad);
  }
  bool next(std::string* line) {
    if (at_ >= text_.size()) return false;
    const size_t end = std::min(text_.find('\n', at_), text_.size());
    *line = text_.substr(at_, end - at_);
    if (line->ends_with('\r')) line->pop_back();
    at_ = end + 1;
    ++number_;
    return true;
  }
  int64_t number() const { return number_; }
  std::string where() const { return fmt::format("{}:{}", file_, number_); }

 private:
  const std::string& file_;
  std::string text_;
  size_t at_ = 0;
  int64_t number_ = 0;
};

// Splits a line of comma-separated values; a quoted one may go on over the next lines.
// Source: RFC 4180.
std::vector<std::string> split_csv(std::string line, Lines& lines) {
  std::vector<std::string> out(1);
  bool quoted = false;
  const std::string begin = lines.where();
  for (size_t i = 0;; ++i) {
    if (i == line.size()) {
      if (!quoted) return out;
      std::string more;
      if (!lines.next(&more)) fail_input("{}: a quotation mark that nothing closes", begin);
      line += "\n" + more;
    }
    const char c = line[i];
    if (quoted) {
      if (c != '"') {
        out.back() += c;
      } else if (i + 1 < line.size() && line[i + 1] == '"') {
        out.back() += line[i++];
      } else {
        quoted = false;
      }
    } else if (c == '"') {
      quoted = true;
    } else if (c == ',') {
      out.emplace_back();
    } else {
      out.back() += c;
    }
  }
}

Json fields_of_columns(const EvalTask& task, const std::vector<std::string>& values,
                       const std::string& where) {
  if (values.size() != task.columns.size())
    fail_input("{}: {} columns; task {} expects {}: {}", where, values.size(), task.name,
               task.columns.size(), join(task.columns, ", "));
  Json fields = Json::object();
  for (size_t i = 0; i < values.size(); ++i) {
    const std::string& name = task.columns[i];
    const auto found = fields.find(name);
    if (found == fields.end()) {
      fields[name] = values[i];
    } else {
      if (!found->is_array()) *found = Json::array({*found});
      found->push_back(values[i]);
    }
  }
  return fields;
}

Json fields_of_json(const std::string& line, const std::string& where) {
  try {
    Json fields = parse_json(line);
    if (!fields.is_object()) fail_input("expected a JSON object on the line");
    return fields;
  } catch (const Error& e) {
    fail_input("{}: {}", where, e.what());
  }
}

// A line for each document.
void add_labels(const EvalTask& task, const std::string& file, std::vector<RawFields>& documents) {
  if (task.labels_file.empty() || documents.empty() || documents[0].fields.contains("label"))
    return;
  const std::string labels = sibling_file(file, task.file, task.labels_file);
  if (labels.empty())
    fail_input(
        "{}:{}: no field \"label\", and no file of labels: the name of the file does not "
        "end in {}",
        file, documents[0].line, task.file);
  Lines lines(labels, read_file(labels));
  std::string line;
  for (RawFields& document : documents) {
    if (!lines.next(&line))
      fail_input("{} has {} lines, {} more documents", labels, lines.number(), file);
    document.fields["label"] = std::string(trim(line));
  }
}

}  // namespace

std::string sibling_file(const std::string& file, const std::string& end,
                         const std::string& other_end) {
  if (!file.ends_with(end)) return "";
  return file.substr(0, file.size() - end.size()) + other_end;
}

std::vector<RawFields> read_fields(const EvalTask& task, const std::string& file, int64_t limit) {
  const bool json = file.ends_with(".jsonl"), tsv = file.ends_with(".tsv");
  if (!json && !tsv && !file.ends_with(".csv"))
    fail_input("{}: expected a file .jsonl, .csv or .tsv", file);
  if (!json && task.columns.empty())
    fail_input("{}: task {} has no columns, it reads .jsonl", file, task.name);
  Lines lines(file, read_file(file));
  std::vector<RawFields> out;
  std::string line;
  while ((limit == 0 || int64_t(out.size()) < limit) && lines.next(&line)) {
    if (trim(line).empty()) continue;
    const std::string where = lines.where();
    const int64_t number = lines.number();
    out.push_back(
        {number,
         json ? fields_of_json(line, where)
              : fields_of_columns(task, tsv ? split(line, '\t') : split_csv(line, lines), where)});
  }
  if (out.empty()) fail_input("{} holds no document", file);
  add_labels(task, file, out);
  return out;
}

}  // namespace forja

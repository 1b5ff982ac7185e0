// SPDX-License-Identifier: Apache-2.0
#include "forja/data/eval_task.h"

#include "csrc/data/eval/python_random.h"
#include "forja/base/file.h"
#include "forja/data/python_text.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using testing::error_of;
using testing::TemporaryDirectory;

// ---- Python's texts and draws

TEST(PythonText, SpacesAndWords) {
  EXPECT_EQ(rstrip("a b \xC2\xA0\n\xE3\x80\x80\x1F"), "a b");
  EXPECT_EQ(rstrip("a\xE2\x80\x8B"), "a\xE2\x80\x8B");  // a zero width space is none
  EXPECT_EQ(rstrip("\xE2\x80\xA8 "), "");
  EXPECT_EQ(strip("\t\xC2\x85 x y\xE2\x80\xAF"), "x y");
  EXPECT_EQ(num_characters("ni\xC3\xB1o \xE2\x82\xAC \xF0\x9F\x98\x80"), 8);
  // len(re.split(r"\s+", text))
  EXPECT_EQ(num_words(""), 1);
  EXPECT_EQ(num_words("a"), 1);
  EXPECT_EQ(num_words(" a  b\n\n\xC2\xA0 c\n"), 5);
}

// random.Random(1234).sample(range(size), count), from large populations and from small ones, which
// Python copies.
TEST(PythonRandom, DrawsAsPython) {
  PythonRandom random(1234);
  using Places = std::vector<size_t>;
  EXPECT_EQ(random.sample(7473, 5), (Places{6374, 3610, 957, 61, 742}));
  EXPECT_EQ(random.sample(7473, 5), (Places{7462, 6610, 4769, 286, 5501}));
  EXPECT_EQ(random.sample(21, 5), (Places{2, 3, 11, 7, 0}));
  EXPECT_EQ(random.sample(30, 8), (Places{0, 25, 29, 11, 20, 19, 15, 24}));
  EXPECT_EQ(random.sample(86, 8), (Places{59, 19, 11, 23, 14, 1, 64, 62}));
  EXPECT_EQ(random.sample(6, 6), (Places{1, 0, 3, 4, 2, 5}));
  EXPECT_EQ(random.sample(1000000, 3), (Places{282680, 864426, 583461}));
}

// ---- Tasks

TEST(EvalTask, BuiltInTasksAreRead) {
  const std::vector<std::string> names = eval_task_names();
  EXPECT_GE(names.size(), 12u);
  for (const std::string& name : names) EXPECT_EQ(find_eval_task(name).name, name);
}

TEST(EvalTask, UnknownNames) {
  const std::string near = error_of([] { find_eval_task("pica"); }, ExitCode::bad_input);
  EXPECT_NE(near.find("unknown task pica; did you mean piqa? known: text, piqa,"), near.npos)
      << near;
  const std::string far = error_of([] { find_eval_task("x"); }, ExitCode::bad_input);
  EXPECT_EQ(far.find("did you mean"), far.npos) << far;
}

struct Folder : TemporaryDirectory {
  std::string add(const std::string& name, const std::string& text) const {
    write_file(file(name), text);
    return file(name);
  }
};

TEST(EvalTask, OfAFileOfOnesOwn) {
  const Folder folder;
  const std::string yaml = folder.add("mine.yaml",
                                      "name: mine\n"
                                      "output_type: multiple_choice\n"
                                      "doc_to_text: \"{{q}}?\\n\\n\"\n"
                                      "doc_to_choice: ['yes', 'no', '{{other}}']\n"
                                      "doc_to_target: '{{answer}}'\n"
                                      "target_delimiter: ''\n"
                                      "metrics: [acc]\n");
  const std::string data =
      folder.add("d.jsonl",
                 "{\"q\": \"Is it\", \"other\": \"maybe\", \"answer\": \"no\"}\n\n"
                 "{\"q\": \"Or\", \"other\": \"perhaps\", \"answer\": 2}\n");
  const EvalTask task = find_eval_task(yaml);
  const EvalDocumentSet set = read_eval_sets(task, data, {})[0];
  ASSERT_EQ(set.documents.size(), 2u);
  EXPECT_EQ(set.documents[0].context, "Is it?\n\n");
  EXPECT_EQ(set.documents[0].continuations, (std::vector<std::string>{"yes", "no", "maybe"}));
  EXPECT_EQ(set.documents[0].gold, 1);
  EXPECT_EQ(set.documents[1].gold, 2);
  EXPECT_EQ(set.documents[1].line, 3);
  EXPECT_EQ(read_eval_sets(task, data, {.limit = 1})[0].documents.size(), 1u);
}

TEST(EvalTask, FaultsOfAFileOfOnesOwn) {
  const Folder folder;
  const auto fault = [&](const std::string& rest) {
    const std::string yaml = folder.add("t.yaml", "name: t\noutput_type: multiple_choice\n" + rest);
    return error_of([&] { find_eval_task(yaml); }, ExitCode::bad_input);
  };
  const std::string target = "doc_to_target: '0'\n";
  EXPECT_NE(fault(target + "doc_to_choice: [a, b]\n").find("metrics"), std::string::npos);
  const std::string metric = fault(target + "doc_to_choice: [a, b]\nmetrics: [exact_match]\n");
  EXPECT_NE(metric.find("exact_match is none of a task of multiple_choice, which can have acc,"),
            metric.npos)
      << metric;
  EXPECT_NE(fault(target + "doc_to_choice: [a]\nmetrics: [acc]\n").find("at least two"),
            std::string::npos);
  EXPECT_NE(fault(target + "metrics: [acc]\ndoc_to_choice: [a, b]\ndoc_to_chioce: [a]\n")
                .find("doc_to_choice"),
            std::string::npos);
}

// ---- Files

TEST(EvalData, ExamplesOfMmlu) {
  const Folder folder;
  folder.add("high_school_art_test.csv", "\"Who, \"\"they\"\" said,\nwas it? \",a,b,c,d,B\n");
  folder.add("high_school_art_dev.csv", "1?,e,f,g,h,D\n2?,i,j,k,l,A\n3?,m,n,o,p,C\n");
  folder.add("._high_school_art_test.csv", "left by another system");
  const std::vector<EvalDocumentSet> sets =
      read_eval_sets(find_eval_task("mmlu"), folder.path(), {.num_fewshot = 2});
  ASSERT_EQ(sets.size(), 1u);
  EXPECT_EQ(sets[0].name, "high_school_art");
  EXPECT_EQ(sets[0].documents[0].gold, 1);
  EXPECT_EQ(sets[0].documents[0].context,
            "The following are multiple choice questions (with answers) about high school art.\n\n"
            "1?\nA. e\nB. f\nC. g\nD. h\nAnswer: D\n\n"
            "2?\nA. i\nB. j\nC. k\nD. l\nAnswer: A\n\n"
            "Who, \"they\" said,\nwas it?\nA. a\nB. b\nC. c\nD. d\nAnswer:");
  EXPECT_EQ(sets[0].documents[0].continuations, (std::vector<std::string>{" A", " B", " C", " D"}));
}

TEST(EvalData, WhatIsWrongIsNamedWithItsLine) {
  const Folder folder;
  const auto error = [&](const char* task, const std::string& path, EvalDataOptions options = {}) {
    return error_of([&] { read_eval_sets(find_eval_task(task), path, options); },
                    ExitCode::bad_input);
  };
  const auto expect = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), message.npos) << message;
  };
  expect(error("piqa", folder.file("none")), "there is no " + folder.file("none"));
  expect(error("piqa", folder.path()), "expected files whose names end in valid.jsonl");
  const std::string good = R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 1})";
  const std::string p = folder.add("p.jsonl", good + "\n{\"goal\": 1\n");
  expect(error("piqa", p), p + ":2: ");
  folder.add("p.jsonl", good + "\n[1]\n");
  expect(error("piqa", p), p + ":2: expected a JSON object");
  folder.add("p.jsonl", good + "\n{\"goal\": \"g\", \"sol1\": \"a\", \"label\": 1}\n");
  expect(error("piqa", p), p + ":2: task piqa: no field \"sol2\"; found: goal, label, sol1");
  folder.add("p.jsonl", R"({"goal": "g", "sol1": "a", "sol2": "b", "label": 2})");
  expect(error("piqa", p), p + ":1: task piqa: the answer is \"2\": expected a number from 0 to 1");
  folder.add("p.jsonl", "\n  \n");
  expect(error("piqa", p), p + " holds no document");
  folder.add("p.jsonl", "{\"goal\": \"\xFF\"}");
  expect(error("piqa", p), "invalid UTF-8");
  expect(error("piqa", folder.add("p.json", good)), "expected a file .jsonl, .csv or .tsv");
  expect(error("piqa", folder.add("p.csv", "a,b")), "task piqa has no columns");
  expect(error("piqa", folder.add("q.jsonl", R"({"goal": "g", "sol1": "a", "sol2": "b"})")),
         "no field \"label\", and no file of labels");
  folder.add("valid.jsonl", R"({"goal": "g", "sol1": "a", "sol2": "b"})");
  folder.add("valid-labels.lst", "");
  expect(error("piqa", folder.file("valid.jsonl")), "valid-labels.lst has 0 lines");
  expect(error("mgsm_es", folder.add("mgsm_es.tsv", "one\t1\ntwo\n")),
         "mgsm_es.tsv:2: 1 columns; task mgsm_es expects 2: question, answer_number");
  expect(error("mmlu", folder.add("x_test.csv", "a,b,c,d,e,A\n\"b,b,c,d,e,A\n")),
         "x_test.csv:2: a quotation mark that nothing closes");
  expect(error("text", folder.add("empty.txt", " \n")), "holds no text");
}

TEST(EvalData, WhatIsWrongWithExamples) {
  const Folder folder;
  const std::string line = R"({"question": "q", "answer": "#### 1"})";
  const std::string test = folder.add("test.jsonl", line);
  const auto error = [&](const char* task, const std::string& path, int64_t count) {
    return error_of(
        [&] {
          read_eval_sets(find_eval_task(task), path, {0, count});
        },
        ExitCode::bad_input);
  };
  EXPECT_EQ(error("gsm8k", test, -1), "task gsm8k takes its 5 examples from " +
                                          folder.file("train.jsonl") +
                                          ", which is not there; --num-fewshot 0 needs none");
  folder.add("train.jsonl", line + "\n" + line);
  EXPECT_EQ(error("gsm8k", test, 3),
            folder.file("train.jsonl") + " has 2 documents, 3 examples are wanted");
  EXPECT_EQ(error("gsm8k", folder.add("mine.jsonl", line), 3),
            "task gsm8k has no file with examples beside " + folder.file("mine.jsonl") +
                ": use --num-fewshot 0");
  const EvalDocumentSet set = read_eval_sets(find_eval_task("gsm8k"), test, {0, 1})[0];
  EXPECT_EQ(set.documents[0].context, "Question: q\nAnswer: #### 1\n\nQuestion: q\nAnswer:");
}

// ---- Answers

TEST(EvalAnswers, OfGsm8k) {
  const EvalTask task = find_eval_task("gsm8k");
  const std::string made = "5 + 5 = 10, so $1,010.\n#### 1,010\nAnd 7 #### 12";
  const std::string strict = find_answer(task.filters[0], made);
  const std::string flexible = find_answer(task.filters[1], made);
  EXPECT_EQ(strict, "1,010");
  EXPECT_EQ(flexible, "12");
  const std::string target = "There are 1010.\n#### 1010";
  EXPECT_TRUE(is_exact_match(task, strict, target));
  EXPECT_FALSE(is_exact_match(task, flexible, target));
  EXPECT_TRUE(is_exact_match(task, "$1,010.", target));
  EXPECT_EQ(find_answer(task.filters[0], "no number"), "[invalid]");
  EXPECT_EQ(find_answer(task.filters[1], "is -8"), "-8");
  EXPECT_FALSE(is_exact_match(task, "[invalid]", target));
}

TEST(EvalAnswers, OfMgsm) {
  const EvalTask task = find_eval_task("mgsm_es");
  EXPECT_TRUE(is_exact_match(task, find_answer(task.filters[0], " 1.010 \n"), "1,010"));
  EXPECT_FALSE(is_exact_match(task, find_answer(task.filters[0], "Son 1010"), "1010"));
  EXPECT_TRUE(is_exact_match(task, find_answer(task.filters[1], "Son 3 o 1010"), "1010"));
}

}  // namespace
}  // namespace forja

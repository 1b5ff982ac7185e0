// SPDX-License-Identifier: Apache-2.0
// From records to tokens and masks; beside transformers' (tests/golden/samples.json).
#include "forja/data/samples.h"

#include <zlib.h>

#include <filesystem>

#include "csrc/data/sample_encoder.h"
#include "forja/base/file.h"
#include "forja/data/dataset_writer.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {

using Json = ChatTemplate::Json;
using testing::error_of;
using testing::TemporaryDirectory;

const Json& golden() {
  static const Json json =
      Json::parse(read_file(testing::source_dir() + "/tests/golden/samples.json"));
  return json;
}

struct Sample {
  std::vector<int32_t> ids;
  std::string learned;  // "0110"
  std::string text, learned_text;
};

class SamplesTest : public ::testing::Test {
 protected:
  SamplesTest() {
    write_file(folder_.file("tokenizer.json"), golden()["tokenizers"][0]["source"].dump());
    for (const auto& [name, source] : golden()["templates"].items())
      write_file(folder_.file(name), source.get<std::string>());
  }

  // The samples of a record.
  std::vector<Sample> encode(const Json& record, const SampleOptions& options,
                             const std::string& tokenizer_path = "") const {
    const std::string path =
        tokenizer_path.empty() ? folder_.file("tokenizer.json") : tokenizer_path;
    return encode(record, options, *load_tokenizer(path), path);
  }
  std::vector<Sample> encode(const Json& record, const SampleOptions& options,
                             const Tokenizer& tokenizer, const std::string& tokenizer_path) const {
    const SampleEncoder encoder(tokenizer, tokenizer_path, tokenizer.eos_id().value_or(0), options);
    RawDocument document;
    document.bytes = record.is_string() ? record.get<std::string>() : record.dump();
    document.file = std::make_shared<const std::string>("some.jsonl");
    document.line = 7;
    document.is_json = true;
    DocumentBatch batch;
    const DatasetKind kind = *encoder.kind_of(document);
    batch.documents.push_back(document);
    encoder.add(&batch, kind);
    std::vector<Sample> out;
    size_t at = 0;
    for (int64_t length : batch.lengths) {
      Sample s;
      std::vector<int32_t> learned;
      for (size_t end = at + size_t(length); at < end; ++at) {
        s.ids.push_back(batch.ids[at]);
        s.learned += char('0' + batch.learned[at]);
        if (batch.learned[at]) learned.push_back(batch.ids[at]);
      }
      s.text = tokenizer.decode(s.ids);
      s.learned_text = tokenizer.decode(learned);
      out.push_back(s);
    }
    return out;
  }
  SampleOptions with_template(const std::string& name = "chatml_plain") const {
    SampleOptions options;
    options.chat_template = folder_.file(name);
    return options;
  }
  std::string learned(const Json& record, const SampleOptions& options) const {
    return encode(record, options).at(0).learned_text;
  }
  std::string refusal(const Json& record, const SampleOptions& options) const {
    return error_of([&] { encode(record, options); }, ExitCode::bad_input);
  }
  void expect_refused(const Json& record, const std::string& words,
                      const SampleOptions& options) const {
    const std::string message = refusal(record, options);
    EXPECT_NE(message.find(words), std::string::npos) << words << " in " << message;
    EXPECT_EQ(message.rfind("some.jsonl:7: ", 0), 0u) << message;
  }

  TemporaryDirectory folder_;
};

const char* const kQuestion = R"({"role": "user", "content": "Hi"})";
const char* const kAnswer = R"({"role": "assistant", "content": "Hello."})";

Json messages(const std::vector<std::string>& list) {
  Json out = {{"messages", Json::array()}};
  for (const std::string& m : list) out["messages"].push_back(Json::parse(m));
  return out;
}

TEST_F(SamplesTest, AsTransformers) {
  int compared = 0, masks = 0;
  for (const Json& one : golden()["tokenizers"]) {
    std::string path = folder_.file("tokenizer.json");
    if (one.contains("asset")) {
      const std::string name = one["asset"].get<std::string>() + "/tokenizer.json";
      path = testing::asset(name);
      if (path.empty()) continue;
    } else {
      write_file(path, one["source"].dump());
    }
    const auto tokenizer = load_tokenizer(path);
    for (const Json& wanted : one["cases"]) {
      const std::string name = wanted["template"], talk = wanted["conversation"];
      SCOPED_TRACE(path + ", " + name + ", " + talk);
      SampleOptions options;
      if (!name.empty()) options.chat_template = folder_.file(name);
      if (!wanted.contains("learned")) options.learn = "all";
      const Sample found =
          encode({{"messages", golden()["conversations"][talk]}}, options, *tokenizer, path).at(0);
      EXPECT_EQ(Json(found.ids), wanted["ids"]) << found.text;
      if (wanted.contains("learned")) {
        EXPECT_EQ(found.learned, wanted["learned"].get<std::string>()) << found.text;
        ++masks;
      }
      ++compared;
    }
  }
  EXPECT_GE(compared, 2 * 20);
  EXPECT_GE(masks, 2 * 7);
}

// Prefix after prefix finds what a template marks.
TEST_F(SamplesTest, PrefixesAsMarks) {
  for (const auto& [talk, list] : golden()["conversations"].items()) {
    const Json record = {{"messages", list}};
    EXPECT_EQ(encode(record, with_template("chatml_plain"))[0].learned,
              encode(record, with_template("chatml"))[0].learned)
        << talk;
  }
}

TEST_F(SamplesTest, TemplatesThatAlwaysPromptForAnAnswer) {
  const Json record = {{"messages", golden()["conversations"]["two"]}};
  EXPECT_EQ(learned(record, with_template("always_prompted")),
            "2, I think<|im_end|>Sí, señor: año, ñandú, 日本語, 🦙<|im_end|>");
}

// As Qwen 3's, which shows thoughts in the last message only.
TEST_F(SamplesTest, TemplatesThatWriteTheLastMessageOtherwise) {
  write_file(folder_.file("thinks"),
             "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and "
             "loop.last %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
             "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}");
  const Json record = messages({kQuestion, kAnswer, kQuestion, kAnswer});
  EXPECT_EQ(learned(record, with_template("thinks")),
            "Hello.<|im_end|><think>\n\n</think>\n\nHello.<|im_end|>");
}

TEST_F(SamplesTest, PublishedTemplates) {
  const std::pair<const char*, const char*> ends[] = {{"tokenizers/qwen2.5", "<|im_end|>"},
                                                      {"tokenizers/llama3", "<|eot_id|>"}};
  const Json record = {{"messages", golden()["conversations"]["one"]}};
  for (const auto& [name, end] : ends) {
    const std::string path = testing::asset(std::string(name) + "/tokenizer.json");
    if (path.empty()) GTEST_SKIP() << "no " << name << " in FORJA_TEST_ASSETS";
    EXPECT_EQ(encode(record, {}, path)[0].learned_text, "Hi! What can I do?" + std::string(end));
  }
}

TEST_F(SamplesTest, EveryFormatIsRecognised) {
  const std::string answer = "Hello.<|im_end|>";
  const SampleOptions options = with_template();
  const char* const records[] = {
      R"({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]})",
      R"({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]})",
      R"({"instruction": "Hi", "input": "", "output": "Hello."})",
      R"({"prompt": "Hi", "completion": "Hello."})"};
  const Sample first = encode(Json::parse(records[0]), options)[0];
  EXPECT_EQ(first.text,
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n");
  for (const char* record : records) {
    EXPECT_EQ(encode(Json::parse(record), options)[0].ids, first.ids) << record;
    EXPECT_EQ(learned(Json::parse(record), options), answer) << record;
  }
  SampleOptions fields = options;
  fields.prompt_field = "question";
  fields.completion_field = "answer";
  EXPECT_EQ(encode({{"question", "Hi"}, {"answer", "Hello."}}, fields)[0].ids, first.ids);
  EXPECT_EQ(
      encode({{"system", "S"}, {"instruction", "Hi"}, {"input", "In"}, {"output", "O"}}, options)[0]
          .text,
      "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nHi\n\nIn<|im_end|>\n"
      "<|im_start|>assistant\nO<|im_end|>\n");
}

TEST_F(SamplesTest, WhatIsLearned) {
  const Json record =
      messages({kQuestion, kAnswer, kQuestion, R"({"role": "assistant", "content": "Bye."})"});
  SampleOptions options = with_template();
  EXPECT_EQ(learned(record, options), "Hello.<|im_end|>Bye.<|im_end|>");
  Json weighted = record;
  weighted["messages"][3]["weight"] = 0;
  EXPECT_EQ(learned(weighted, options), "Hello.<|im_end|>");
  EXPECT_EQ(learned(weighted, with_template("chatml")), "Hello.<|im_end|>");
  expect_refused(weighted, "has the weight 0", with_template("words"));
  weighted["messages"][3]["weight"] = 0.5;
  expect_refused(weighted, "is 0.5, expected 0", options);
  options.learn = "last";
  EXPECT_EQ(learned(record, options), "Bye.<|im_end|>");
  options.chat_template = folder_.file("chatml");
  EXPECT_EQ(learned(record, options), "Bye.<|im_end|>");
  options.learn = "all";
  const Sample all = encode(record, options)[0];
  EXPECT_EQ(all.learned, "0" + std::string(all.ids.size() - 1, '1'));
}

TEST_F(SamplesTest, InstructionsWithoutATemplate) {
  const Json record = {{"instruction", "Add."}, {"input", "1 1"}, {"output", "2 <|im_end|>"}};
  const Sample sample = encode(record, {})[0];
  EXPECT_EQ(
      sample.text,
      "Below is an instruction that describes a task, paired with an input that provides "
      "further context. Write a response that appropriately completes the request.\n\n"
      "### Instruction:\nAdd.\n\n### Input:\n1 1\n\n### Response:\n2 <|im_end|><|endoftext|>");
  EXPECT_EQ(sample.learned_text, "2 <|im_end|><|endoftext|>");
  // Text cannot forge a special token: there is one, at the end.
  const auto tokenizer = load_tokenizer(folder_.file("tokenizer.json"));
  EXPECT_EQ(std::count_if(sample.ids.begin(), sample.ids.end(),
                          [&](int32_t id) { return tokenizer->is_special(id); }),
            1);
  SampleOptions plain;
  plain.prompt = "plain";
  EXPECT_EQ(encode({{"prompt", "Q:"}, {"completion", " A"}}, plain)[0].text, "Q: A<|endoftext|>");
  EXPECT_EQ(learned({{"prompt", "Q:"}, {"completion", " A"}}, plain), " A<|endoftext|>");
}

TEST_F(SamplesTest, PreferencePairs) {
  const SampleOptions options = with_template();
  const char* const records[] = {
      R"({"prompt": "Hi", "chosen": "Good.", "rejected": "Bad."})",
      R"({"instruction": "Hi", "output": "?", "chosen": "Good.", "rejected": "Bad."})",
      R"({"prompt": [{"role": "user", "content": "Hi"}],
          "chosen": [{"role": "assistant", "content": "Good."}],
          "rejected": [{"role": "assistant", "content": "Bad."}]})",
      R"({"chosen": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Good."}],
          "rejected": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Bad."}]})",
      R"({"conversations": [{"from": "human", "value": "Hi"}], "chosen": {"from": "gpt", "value": "Good."},
          "rejected": {"from": "gpt", "value": "Bad."}})"};
  for (const char* record : records) {
    const std::vector<Sample> pair = encode(Json::parse(record), options);
    ASSERT_EQ(pair.size(), 2u);
    EXPECT_EQ(pair[0].text,
              "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nGood.<|im_end|>\n");
    EXPECT_EQ(pair[0].learned_text, "Good.<|im_end|>");
    EXPECT_EQ(pair[1].learned_text, "Bad.<|im_end|>");
  }
  // Earlier answers are common to both: nothing to prefer.
  const Json longer = {{"messages", messages({kQuestion, kAnswer, kQuestion})["messages"]},
                       {"chosen", "Good."},
                       {"rejected", "Bad."}};
  EXPECT_EQ(encode(longer, options)[1].learned_text, "Bad.<|im_end|>");
  EXPECT_EQ(encode(longer, with_template("chatml"))[1].learned_text, "Bad.<|im_end|>");
}

TEST_F(SamplesTest, FaultsAreNamed) {
  const SampleOptions options = with_template();
  const auto expect = [&](const std::string& record, const std::string& words) {
    expect_refused(Json(record), words, options);
  };
  expect("{\"messages\": [", "not JSON");
  expect("[1, 2]", "expected a JSON object, found array");
  expect(std::string(300, '[') + std::string(300, ']'), "nested deeper");
  expect(R"({"text": "plain"})", "none that is recognised by the fields (text)");
  expect(R"({"messages": []})", "is empty");
  expect(R"({"messages": [3]})", "a message is 3");
  expect(R"({"messages": [{"content": "x"}]})", "no field \"role\"");
  expect(R"({"messages": [{"role": "alien", "content": "x"}]})", "the role \"alien\" is unknown");
  expect(R"({"messages": [{"role": "user"}]})", "is missing, expected text");
  expect(R"({"messages": [{"role": "user", "content": 5}]})", "is 5, expected text");
  expect(R"({"messages": [{"role": "user", "content": "x"}]})", "nothing to learn");
  expect(R"({"conversations": [{"from": "alien", "value": "x"}]})", "from \"alien\"");
  expect(R"({"conversations": [{"from": "human"}]})", "no field \"value\"");
  expect(R"({"instruction": "x", "output": null})", "\"output\" is null, expected text");
  expect(R"({"prompt": "x", "completion": 1})", "\"completion\" is 1");
  expect(R"({"chosen": "a", "rejected": "b"})", "no \"prompt\"");
  expect(R"({"prompt": "x", "chosen": "a", "rejected": "a"})", "are the same");
  expect(R"({"prompt": "x", "chosen": "a", "rejected": 1})", "\"rejected\" is 1");
  expect("{\"prompt\": \"\xff\", \"completion\": \"x\"}", "not JSON");
  const Json chat = messages({kQuestion, kAnswer});
  expect_refused(chat, "needs a chat template", {});
  write_file(folder_.file("refuses"), "{{ raise_exception('no such thing') }}");
  expect_refused(chat, "no such thing", with_template("refuses"));
  write_file(folder_.file("changes"),
             "{{ messages | length }}{% for m in messages %}{{ m.content }}"
             "{% if add_generation_prompt %}:{% endif %}{% endfor %}");
  expect_refused(chat, "in message 2 cannot be found", with_template("changes"));
  SampleOptions alpaca = options;
  alpaca.format = "alpaca";
  expect_refused(chat, "no field \"instruction\"; its fields: messages", alpaca);
}

// ---- Files

TEST_F(SamplesTest, ArraysAndCompressedFilesAreRead) {
  const std::string record = R"({"prompt": "Hi", "completion": "a ] \" b"})";
  write_file(folder_.file("a.jsonl"), record + "\n" + record + "\n");
  write_file(folder_.file("a.json"), "\n[" + record + " ,\n" + record + "\n] \n");
  gzFile gz = gzopen(folder_.file("a.json.gz").c_str(), "wb");
  const std::string text = read_file(folder_.file("a.json"));
  ASSERT_EQ(gzwrite(gz, text.data(), unsigned(text.size())), int(text.size()));
  gzclose(gz);
  std::vector<std::string> manifests;
  for (const char* name : {"a.jsonl", "a.json", "a.json.gz"}) {
    const std::string out = folder_.file(std::string("out-") + name);
    const DatasetInfo info =
        tokenize_samples({folder_.file(name)}, folder_.file("tokenizer.json"), out, {}, {}, {});
    EXPECT_EQ(info.num_documents, 2);
    EXPECT_EQ(info.kind, DatasetKind::samples);
    Dataset(out).verify();
    manifests.push_back(read_file(out + "/manifest.json"));
  }
  EXPECT_EQ(manifests[0], manifests[1]);
  EXPECT_EQ(manifests[0], manifests[2]);
}

TEST_F(SamplesTest, DamagedArraysAreRefused) {
  const auto error = [&](const std::string& text) {
    write_file(folder_.file("a.json"), text);
    const std::string message = error_of(
        [&] {
          tokenize_samples({folder_.file("a.json")}, folder_.file("tokenizer.json"),
                           folder_.file("out"), {}, {}, {});
        },
        ExitCode::bad_input);
    EXPECT_FALSE(std::filesystem::exists(folder_.file("out")));
    return message;
  };
  const std::string record = R"({"prompt": "Hi", "completion": "x"})";
  EXPECT_NE(error(record).find("a.json:1: expected an array"), std::string::npos);
  EXPECT_NE(error("[\n" + record).find("a.json:2: expected the end of the array"),
            std::string::npos);
  EXPECT_NE(error("[" + record + "\n,]").find("a.json:2: expected a value"), std::string::npos);
  EXPECT_NE(error("[" + record + "]\n\n]").find("a.json:3: expected nothing after"),
            std::string::npos);
  EXPECT_NE(error("[" + record + ",\n3]").find("a.json:2: expected a JSON object"),
            std::string::npos);
  EXPECT_NE(error("[]").find("holds no sample"), std::string::npos);
}

TEST_F(SamplesTest, FaultyRecordsAreSkippedWhereConfigured) {
  std::string text;
  for (int i = 0; i < 50; ++i)
    text += i % 10 == 3 ? "{\"prompt\": 1}\n"
                        : R"({"prompt": "Hi", "completion": "x"})"
                          "\n";
  write_file(folder_.file("a.jsonl"), text);
  const auto tokenize = [&](SampleOptions options) {
    return tokenize_samples({folder_.file("a.jsonl")}, folder_.file("tokenizer.json"),
                            folder_.file("out"), options, {}, {});
  };
  const std::string message = error_of([&] { tokenize({}); }, ExitCode::bad_input);
  EXPECT_NE(message.find("a.jsonl:4: "), std::string::npos) << message;
  for (const auto& item : std::filesystem::directory_iterator(folder_.path()))
    EXPECT_EQ(item.path().filename().string().find("out"), std::string::npos) << "left behind";
  SampleOptions skip;
  skip.skip_malformed = true;
  skip.format = "prompt-completion";
  const DatasetInfo info = tokenize(skip);
  EXPECT_EQ(info.num_documents, 45);
  EXPECT_EQ(info.num_left_out, 5);
  EXPECT_NE(describe_dataset(folder_.file("out"), true).find("5 records with faults"),
            std::string::npos);
}

TEST_F(SamplesTest, PairsAndSamplesDoNotMix) {
  write_file(folder_.file("a.jsonl"),
             "{\"prompt\": \"a\", \"chosen\": \"b\", \"rejected\": \"c\"}\n"
             "{\"prompt\": \"a\", \"completion\": \"b\"}\n");
  const std::string message = error_of(
      [&] {
        tokenize_samples({folder_.file("a.jsonl")}, folder_.file("tokenizer.json"),
                         folder_.file("out"), {}, {}, {});
      },
      ExitCode::bad_input);
  EXPECT_NE(message.find("a.jsonl:2: this is a single sample"), std::string::npos) << message;
}

TEST_F(SamplesTest, InspectShowsSamplesAsTheModelSeesThem) {
  write_file(folder_.file("a.jsonl"), R"({"prompt": "Hi", "completion": "Hello)"
                                      "\\u001b[31m"
                                      R"(."})"
                                      "\n");
  tokenize_samples({folder_.file("a.jsonl")}, folder_.file("tokenizer.json"), folder_.file("out"),
                   with_template(), {}, {});
  const std::string plain = describe_dataset(folder_.file("out"), true);
  EXPECT_NE(plain.find("<|im_start|>assistant\n      [[Hello\\x1b[31m.<|im_end|>]]"),
            std::string::npos)
      << plain;
  const std::string coloured = describe_dataset(folder_.file("out"), true, SampleStyle::colours);
  EXPECT_NE(coloured.find("\x1b[32mHello\\x1b[31m.\x1b[0m\x1b[1;35m<|im_end|>\x1b[0m\n"),
            std::string::npos)
      << coloured;
}

}  // namespace
}  // namespace forja

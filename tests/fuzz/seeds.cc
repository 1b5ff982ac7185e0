// SPDX-License-Identifier: Apache-2.0
// Writes the valid inputs that every corpus begins with, small files of this project's own making.
//   fuzz_seeds FOLDER         FOLDER/<reader>/<name>
#include <sentencepiece_trainer.h>
#include <zlib.h>
#include <zstd.h>

#include <cstdio>

#include "forja/checkpoint/hf_config.h"
#include "forja/checkpoint/safetensors.h"
#include "forja/comm/flight_record.h"
#include "forja/data/dataset_writer.h"
#include "forja/parallel/schedule.h"
#include "forja/train/run_config.h"
#include "tests/checkpoint/small_checkpoint.h"
#include "tests/data/small_data.h"
#include "tests/report/fake_run.h"
#include "tests/testing/local_world.h"

namespace forja {
namespace {

class Seeds {
 public:
  explicit Seeds(std::string folder) : folder_(std::move(folder)) {}

  void write(const std::string& reader, const std::string& name, const std::string& bytes) const {
    make_directories(folder_ + "/" + reader);
    write_file(folder_ + "/" + reader + "/" + name, bytes);
  }
  // Files of a folder as one input (Sandbox::write_parts).
  void write_files(const std::string& reader, const std::string& name, const std::string& from,
                   const std::vector<std::string>& files) const {
    std::string bytes;
    for (const std::string& file : files)
      bytes += (bytes.empty() ? "" : "\n@@\n") + read_file(from + "/" + file);
    write(reader, name, bytes);
  }

 private:
  std::string folder_;
};

ModelConfig small_model() {
  return {.vocab_size = 64,
          .hidden_size = 8,
          .num_hidden_layers = 1,
          .num_attention_heads = 2,
          .num_key_value_heads = 1,
          .head_dim = 4,
          .intermediate_size = 16,
          .max_position_embeddings = 16};
}

void write_tensor_seeds(const Seeds& seeds) {
  testing::TemporaryDirectory folder;
  testing::TensorBox box(1 << 20);
  const Tensor a = box.normal(DType::f32, {2, 3}, 1), b = box.normal(DType::bf16, {5}, 2),
               c = box.normal(DType::f64, {2, 1, 2}, 3);
  const std::string first = "model-00001-of-00002.safetensors",
                    second = "model-00002-of-00002.safetensors";
  write_safetensors(folder.file(first), {{"a", a}, {"b", b}}, {{"format", "pt"}});
  write_safetensors(folder.file(second), {{"c", c}});
  seeds.write_files("safetensors", "two_tensors", folder.path(), {first});
  seeds.write_files("safetensors", "fp64", folder.path(), {second});
  write_file(folder.file("model.safetensors.index.json"),
             fmt::format(R"({{"metadata": {{"total_size": 66}}, "weight_map": )"
                         R"({{"a": "{0}", "b": "{0}", "c": "{1}"}}}})",
                         first, second));
  ModelConfig model = small_model();
  for (const char* type : {"llama", "gpt2", "mistral", "qwen2", "qwen3"}) {
    model.model_type = type;
    if (model.model_type == "gpt2") model.num_key_value_heads = 2;
    model.apply_model_type();
    const std::string config = hf_config_json(model, DType::f32, {1, 2});
    write_file(folder.file("config.json"), config);
    seeds.write("model_config", std::string(type) + "_json", config);
    seeds.write("model_config", std::string(type) + "_yaml",
                print_config([&](ConfigVisitor& v) { model.visit(v); }));
    model = small_model();
  }
  seeds.write_files("hf_model", "two_files", folder.path(),
                    {"model.safetensors.index.json", first, second, "config.json"});
}

void write_checkpoint_seeds(const Seeds& seeds) {
  testing::TemporaryDirectory folder;
  for (const int ranks : {1, 2}) {
    testing::run_world(ranks, [&](World& world) {
      SmallStore small({.zero = 1, .shard_rank = world.rank(), .num_shards = ranks});
      small.fill(0.0f);
      save_small(small, folder.path(), ranks, world.communicator());
    });
    std::vector<std::string> files = {"manifest.json", "shard-00000.safetensors"};
    if (ranks == 2) files.insert(files.end(), {"shard-00001.safetensors", "config.yaml"});
    seeds.write_files("checkpoint", fmt::format("of_{}_ranks", ranks),
                      folder.file(checkpoint_name(ranks)), files);
  }
}

void write_run_seeds(const Seeds& seeds) {
  RunConfig run;
  run.train.steps = 10;
  run.data.train = {{"data/web"}, {"data/code"}};
  seeds.write("run_config", "every_key", run.to_yaml());
  seeds.write("run_config", "few_keys",
              "model: {vocab_size: 64, hidden_size: 8, num_attention_heads: 2}\n"
              "data: {train: [{path: a, weight: 0.9}, {path: b}], sequence_length: 16}\n"
              "parallel: {pp: 2, schedule: 1f1b, stage_layers: [1, 2]}\n"
              "train: {tokens: 1_000_000, batch_ramp: {start: 64, steps: 3}}\n"
              "optimizer: {betas: [0.9, 0.95], schedule: {name: cosine, min_lr: 1e-5}}\n");
  const testing::FakeRun fake{.steps = 6};
  std::string metrics;
  for (int64_t step = 1; step <= fake.steps; ++step) metrics += fake_step(fake, step) + "\n";
  metrics += R"({"step":6,"eval":{"valid":{"loss":5.5,"perplexity":244.7,"tokens":4096}}})"
             "\n";
  seeds.write("run_directory", "six_steps",
              metrics + "\n@@\n" + run.to_yaml() + "\n@@\n" +
                  R"({"format_version":1,"name":"x","model":{"parameters":42}})");
  seeds.write("matmul_choices", "two_machines",
              R"({"format_version": 1, "machines": {"a machine": {"bf16 8 8 8": "cublaslt 2", )"
              R"("bf16 8 8 16": "custom"}, "another": {}}})");
}

// Of one rank of two, some calls long.
void write_flight_seeds(const Seeds& seeds) {
  const testing::TemporaryDirectory folder;
  testing::run_world(2, [&](World& world) {
    Communicator& ranks = world.communicator();
    FlightRecord record(world.rank(), "node1");
    record.watch(ranks, "world");
    if (world.rank() == 0) record.keep_in(folder.file("rank-00000"));
    record.set_activity("forward of stage 0, micro-batch 0", 3);
    float x = 1.0f;
    const Tensor t = make_tensor(&x, DType::f32, {1});
    ranks.all_reduce(t, ReduceOp::sum, {"gradients", 3, 1}).wait();
    using Kind = PointToPoint::Kind;
    ranks.exchange({{world.rank() == 0 ? Kind::send : Kind::recv, t, 1 - world.rank()}}, {"there"})
        .wait();
    const Event last = ranks.barrier({"end"});
    if (world.rank() == 0)
      seeds.write("flight_record", "two_ranks",
                  read_file(folder.file("rank-00000")).substr(0, 4096));
    last.wait();
  });
}

void write_schedule_seeds(const Seeds& seeds) {
  for (const std::string& name : schedule_names()) {
    const int virtual_stages = num_stages(name, 2, name == "interleaved_1f1b" ? 2 : 1) / 2;
    const Schedule schedule = make_schedule(name, 2, virtual_stages, 4);
    const std::string sizes = fmt::format("2 {} 4\n", virtual_stages);
    seeds.write("schedule", name, sizes + to_csv(schedule));
    seeds.write("schedule", name + "_transfers", sizes + to_csv(add_communication(schedule)));
  }
}

// In the style of SentencePiece: characters, and the 256 bytes.
std::string metaspace_tokenizer() {
  std::string vocab;
  for (int byte = 0; byte < 256; ++byte) vocab += fmt::format(R"("<0x{:02X}>": {}, )", byte, byte);
  return R"({"added_tokens": [{"id": 256, "content": "<s>", "special": true}], "normalizer": null,)"
         R"("pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"},)"
         R"("decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},)"
         R"("model": {"type": "BPE", "byte_fallback": true, "vocab": {)" +
         vocab + R"("▁": 257, "a": 258, "▁a": 259}, "merges": [["▁", "a"]]}})";
}

class Lines : public sentencepiece::SentenceIterator {
 public:
  bool done() const override { return at_ == 80; }
  void Next() override {
    ++at_;
    line_ = at_ % 2 ? "and the fox's friends do not mind, " + std::to_string(at_)
                    : "the quick brown fox jumps over the lazy dog";
  }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  int at_ = 0;
  std::string line_ = "the quick brown fox";
};

// `rule`: what normalises texts, as an argument of the trainer.
std::string sentencepiece_model(const std::string& type, const std::string& rule) {
  Lines lines;
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(
      "--vocab_size=300 --byte_fallback --minloglevel=2 --hard_vocab_limit=false --num_threads=1 "
      "--model_type=" +
          type + " --normalization_rule_" + rule,
      &lines, &model);
  if (!status.ok()) fail("SentencePiece: {}", status.ToString());
  return model;
}

void write_tokenizer_seeds(const Seeds& seeds) {
  const std::string config =
      R"({"eos_token": {"content": "<|endoftext|>"}, "add_bos_token": true})";
  seeds.write("tokenizer_json", "bytes", testing::small_tokenizer_json(270) + "\n@@\n" + config);
  seeds.write("tokenizer_json", "metaspace", metaspace_tokenizer());
  testing::TemporaryDirectory folder;
  write_file(folder.file("rule.tsv"), "F1\t6E\nDF\t73 73\n");  // the letters are code points
  seeds.write("tokenizer_model", "unigram", sentencepiece_model("unigram", "name=identity"));
  seeds.write("tokenizer_model", "bpe_with_a_map",
              sentencepiece_model("bpe", "tsv=" + folder.file("rule.tsv")));
  seeds.write("tokenizer_model", "tiktoken", "IQ== 0\nIg== 1\nIyQ= 2\n");
}

void write_dataset_seeds(const Seeds& seeds) {
  testing::TemporaryDirectory folder;
  const std::string path = testing::write_small_tokenizer(folder.file("tokenizer.json"), 270);
  const auto tokenizer = load_tokenizer(path);
  DatasetWriter writer(folder.file("data"), *tokenizer, "", *tokenizer->eos_id(), {});
  for (int d = 0; d < 4; ++d) {
    const std::vector<int32_t> ids = tokenizer->encode("the fox's friends");
    writer.add_document(ids.data() + d, int64_t(ids.size()) - d, 17);
  }
  writer.commit();
  seeds.write_files("dataset", "four_documents", folder.file("data"),
                    {"manifest.json", "shard-00000.tokens", "shard-00000.documents"});
  for (const DatasetKind kind : {DatasetKind::samples, DatasetKind::preference_pairs}) {
    DatasetWriterOptions options;
    options.kind = kind;
    DatasetWriter samples(folder.file("samples"), *tokenizer, "", *tokenizer->eos_id(), options);
    for (int d = 0; d < 4; ++d) {
      const std::vector<int32_t> ids = tokenizer->encode("the fox's friends");
      const std::vector<uint8_t> learned(ids.size(), 1);
      samples.add_sample(ids.data() + d, learned.data() + d, int64_t(ids.size()) - d, 17);
    }
    samples.commit();
    seeds.write_files(
        "dataset", kind == DatasetKind::samples ? "samples" : "preference_pairs",
        folder.file("samples"),
        {"manifest.json", "shard-00000.tokens", "shard-00000.documents", "shard-00000.learned"});
    std::filesystem::remove_all(folder.file("samples"));
  }
}

void write_sample_seeds(const Seeds& seeds) {
  seeds.write(
      "samples", "messages",
      R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"},)"
      R"( {"role": "assistant", "content": "a"}], "tools": [{"name": "t"}]})");
  seeds.write(
      "samples", "sharegpt",
      R"({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]})");
  seeds.write("samples", "alpaca", R"({"instruction": "i", "input": "x", "output": "o"})");
  seeds.write("samples", "prompt_completion", R"({"prompt": "p", "completion": "c"})");
  seeds.write("samples", "preference", R"({"prompt": "p", "chosen": "c", "rejected": "r"})");
  seeds.write(
      "samples", "preference_messages",
      R"({"chosen": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "c"}],)"
      R"( "rejected": [{"role": "user", "content": "u"}, {"from": "gpt", "value": "r"}]})");
}

void write_document_seeds(const Seeds& seeds) {
  const std::string lines = "{\"text\": \"one \\u00f1\", \"id\": [1, {}]}\n{\"text\": \"two\"}\n";
  seeds.write("documents", "lines", std::string(1, '\0') + lines);
  seeds.write("documents", "array",
              "@[" + lines.substr(0, lines.find('\n')) + ",\n{\"text\": \"]\\\"\"} ]\n");
  seeds.write("documents", "separated", "\x81one\n---\ntwo\n");
  z_stream z{};
  std::string gz(1000, '\0');
  deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(lines.data()));
  z.avail_in = uInt(lines.size());
  z.next_out = reinterpret_cast<Bytef*>(gz.data());
  z.avail_out = uInt(gz.size());
  deflate(&z, Z_FINISH);
  gz.resize(z.total_out);
  deflateEnd(&z);
  seeds.write("documents", "gzip", "\x02" + gz);
  std::string zst(1000, '\0');
  zst.resize(ZSTD_compress(zst.data(), zst.size(), lines.data(), lines.size(), 9));
  seeds.write("documents", "zstd", "\x03" + zst);
}

}  // namespace
}  // namespace forja

int main(int argc, char** argv) {
  using namespace forja;
  if (argc != 2) {
    std::fputs("usage: fuzz_seeds FOLDER\n", stderr);
    return 2;
  }
  try {
    const Seeds seeds(argv[1]);
    for (const auto write : {write_tensor_seeds, write_checkpoint_seeds, write_run_seeds,
                             write_flight_seeds, write_schedule_seeds, write_tokenizer_seeds,
                             write_dataset_seeds, write_document_seeds, write_sample_seeds})
      write(seeds);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
  return 0;
}

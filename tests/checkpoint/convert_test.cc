// SPDX-License-Identifier: Apache-2.0
// Checkpoints to Hugging Face directories and back, bit by bit; and what is wrong with either.
#include "forja/checkpoint/convert.h"

#include "forja/checkpoint/checkpoint_writer.h"

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "forja/base/philox.h"
#include "forja/checkpoint/checkpoint.h"
#include "forja/checkpoint/hf_model.h"
#include "forja/comm/communicator.h"
#include "forja/nn/decoder.h"
#include "tests/testing/testing.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

constexpr int64_t kWhole = int64_t(1) << 40;  // everything in one file

ModelConfig family(const std::string& model_type, bool tied) {
  ModelConfig model;
  model.model_type = model_type;
  EXPECT_TRUE(model.apply_model_type());
  model.vocab_size = 53;
  model.hidden_size = 16;
  model.num_hidden_layers = 2;
  model.num_attention_heads = 4;
  model.num_key_value_heads = model_type == "gpt2" ? 4 : 2;
  model.head_dim = model_type == "qwen3" ? 8 : 4;
  model.intermediate_size = 24;
  model.max_position_embeddings = 32;
  model.tie_word_embeddings = tied;
  if (model_type == "mistral") model.sliding_window = 7;
  return model;
}

std::string shard_of_model(const std::string& folder) { return folder + "/model.safetensors"; }

// A checkpoint of random weights, biases and norms too.
std::string make_checkpoint(const ModelConfig& model, const std::string& folder) {
  ParameterStore store(DType::f32, StoreUse::training);
  Decoder decoder(store, model, 1);
  Arena plan("plan"), unused("unused");
  store.allocate_all(plan, plan, plan);
  Arena arena("test", Device{}, plan.peak_bytes());
  store.allocate_all(arena, arena, arena);
  Arena scratch("scratch", Device{}, int64_t(1) << 20);
  const Context ctx{{}, &scratch};
  store.initialize(ctx, 5);
  uint64_t seed = 0;
  for (const auto& p : store.all()) {
    testing::TensorBox box(1 << 20);
    const Tensor values = box.normal(DType::f32, {p->spec.num_elements()}, ++seed, 0.2);
    set_from_full(ctx, *p, StateKind::weight, values.ptr<float>());
  }
  const auto self = make_self_communicator();
  CheckpointParts parts(store, {}, nullptr);
  CheckpointWriter writer(parts, {folder, "name: test\n", 0, 0}, *self);
  writer.begin(ctx, TrainState{.step = 3});
  writer.wait();
  return folder + "/" + checkpoint_name(3);
}

std::string folder_in(const testing::TemporaryDirectory& parent, const std::string& name) {
  make_directories(parent.file(name));
  return parent.file(name);
}

using Bytes = std::map<std::string, std::string>;  // name, dtype and shape -> data

std::string bytes_of(const Tensor& t) {
  return {static_cast<const char*>(t.data), size_t(t.num_bytes())};
}

Bytes hf_bytes(const std::string& folder) {
  const HfTensors tensors(folder);
  Bytes out;
  for (const std::string& name : tensors.names())
    out[name + " " + tensors.tensor(name).to_string()] = bytes_of(tensors.tensor(name));
  return out;
}

// Weights alone, in fp32.
Bytes checkpoint_bytes(const std::string& path, const ModelConfig& model) {
  ParameterStore store(DType::f32, StoreUse::inference);
  Decoder decoder(store, model, 1);
  const CheckpointWeights weights(path);
  EXPECT_EQ(weights.names().size(), store.all().size());
  Bytes out;
  for (const auto& p : store.all()) {
    const std::vector<float> values = weights.read(p->spec.name, p->spec.shape);
    out[p->spec.name] = {reinterpret_cast<const char*>(values.data()), values.size() * 4};
  }
  return out;
}

struct Case {
  const char* model_type;
  bool tied;
};

class Convert : public ::testing::TestWithParam<Case> {};

TEST_P(Convert, ThereAndBackIsBitwiseTheSame) {
  const ModelConfig model = family(GetParam().model_type, GetParam().tied);
  testing::TemporaryDirectory parent;
  const std::string checkpoint = make_checkpoint(model, parent.file("run"));
  const auto original = checkpoint_bytes(checkpoint, model);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    for (const int64_t shard : {kWhole, int64_t(3000)}) {
      const std::string name = fmt::format("{}-{}", dtype_name(dtype), shard);
      const std::string hf = folder_in(parent, "hf-" + name), back = folder_in(parent, name),
                        again = folder_in(parent, "again-" + name);
      const ConvertedModel made =
          export_hf_model(*open_checkpoint_weights(checkpoint), model, {1, 2}, {dtype, shard}, hf);
      EXPECT_EQ(made.num_shards > 1, shard != kWhole);
      EXPECT_EQ(made.dtype, dtype);
      EXPECT_EQ(made.num_parameters, count_parameters(model));
      EXPECT_EQ(HfTensors(hf).has("lm_head.weight"), !model.tie_word_embeddings);

      const ModelConfig read = read_model_config(hf + "/config.json");
      import_hf_model(hf, read, "name: x\n", {std::nullopt, shard}, back);
      EXPECT_TRUE(is_checkpoint(back));
      describe_checkpoint(back, true);
      if (dtype == DType::f32) {
        EXPECT_EQ(checkpoint_bytes(back, read), original);
      }
      EXPECT_EQ(CheckpointWeights(back).dtype("embedding.weight"), dtype);

      export_hf_model(*open_checkpoint_weights(back), read, {1, 2}, {std::nullopt, shard}, again);
      EXPECT_EQ(hf_bytes(again), hf_bytes(hf));
      EXPECT_EQ(read_file(again + "/config.json"), read_file(hf + "/config.json"));
    }
  }
}

TEST_P(Convert, ShardsAndFormatsLoadAsOneFile) {
  const ModelConfig model = family(GetParam().model_type, GetParam().tied);
  testing::TemporaryDirectory parent;
  const std::string checkpoint = make_checkpoint(model, parent.file("run")),
                    one = folder_in(parent, "one"), many = folder_in(parent, "many");
  export_hf_model(*open_checkpoint_weights(checkpoint), model, {}, {DType::bf16, kWhole}, one);
  export_hf_model(*open_checkpoint_weights(checkpoint), model, {}, {DType::bf16, 2000}, many);
  const auto load = [&](const std::string& directory) {
    ParameterStore store(DType::f32, StoreUse::inference);
    Decoder decoder(store, model, 1);
    Arena arena("test", Device{}, int64_t(1) << 20), unused("unused");
    store.allocate_all(arena, unused, unused);
    Arena scratch("scratch", Device{}, int64_t(1) << 20);
    load_hf_weights(Context{{}, &scratch}, directory, store);
    Bytes out;
    for (const auto& p : store.all()) out[p->spec.name] = bytes_of(p->weight);
    return out;
  };
  EXPECT_EQ(load(one), load(many));
}

INSTANTIATE_TEST_SUITE_P(
    Families, Convert,
    ::testing::Values(Case{"gpt2", true}, Case{"gpt2", false}, Case{"llama", true},
                      Case{"llama", false}, Case{"mistral", false}, Case{"qwen2", true},
                      Case{"qwen2", false}, Case{"qwen3", true}, Case{"qwen3", false}),
    [](const auto& test) {
      return std::string(test.param.model_type) + (test.param.tied ? "Tied" : "Untied");
    });

// The files that transformers wrote come back with the same bytes.
TEST(ConvertGolden, FilesOfTransformersComeBack) {
  for (const char* name : {"gpt2", "gpt2_erf", "llama", "llama3_rope", "llama_linear_rope",
                           "llama_yarn_rope", "qwen2", "qwen3", "mistral"}) {
    const std::string golden = testing::source_dir() + "/tests/golden/" + name;
    const ModelConfig model = read_model_config(golden + "/config.json");
    testing::TemporaryDirectory parent;
    const std::string checkpoint = folder_in(parent, "x"), back = folder_in(parent, "y");
    EXPECT_TRUE(import_hf_model(golden, model, "name: x\n", {}, checkpoint).extra_tensors.empty());
    export_hf_model(*open_checkpoint_weights(checkpoint), model, {}, {}, back);
    EXPECT_EQ(hf_bytes(back), hf_bytes(golden)) << name;
    // What decides what is computed is in the new config.json as transformers writes it.
    const auto wrote = nlohmann::json::parse(read_file(back + "/config.json")),
               wanted = nlohmann::json::parse(read_file(golden + "/config.json"));
    for (const auto& [key, value] : wanted.items()) {
      const bool other = key == "transformers_version" || key.ends_with("token_id") ||
                         key == "max_window_layers" || key == "n_inner";
      if (other || !wrote.contains(key)) continue;
      EXPECT_EQ(wrote[key], value) << name << " " << key;
    }
  }
}

TEST(ConvertConfig, BothGenerationsOfTransformersReadIt) {
  ModelConfig model = family("llama", false);
  model.rope.rope_type = "llama3";
  model.rope.rope_theta = 500000.0;
  model.rope.factor = 8.0;
  const auto json = nlohmann::json::parse(hf_config_json(model, DType::bf16, {7, std::nullopt}));
  EXPECT_EQ(json["architectures"][0], "LlamaForCausalLM");
  EXPECT_EQ(json["dtype"], "bfloat16");
  EXPECT_EQ(json["torch_dtype"], "bfloat16");
  EXPECT_EQ(json["rope_theta"], 500000.0);
  EXPECT_EQ(json["rope_scaling"]["rope_type"], "llama3");
  EXPECT_EQ(json["rope_scaling"]["original_max_position_embeddings"], 32);
  EXPECT_EQ(json["rope_parameters"]["rope_theta"], 500000.0);
  EXPECT_EQ(json["rope_parameters"]["factor"], 8.0);
  EXPECT_EQ(json["bos_token_id"], 7);
  EXPECT_TRUE(json["eos_token_id"].is_null());
}

TEST(ConvertConfig, WhatTheFamilyCannotSayIsRefused) {
  const auto refusal = [](const ModelConfig& model) {
    return testing::error_of([&] { hf_config_json(model, DType::f32, {}); }, ExitCode::bad_input);
  };
  ModelConfig window = family("llama", false);
  window.sliding_window = 8;
  EXPECT_NE(refusal(window).find("model_type llama have no"), std::string::npos);
  EXPECT_NE(refusal(window).find("sliding_window: 8"), std::string::npos);
  ModelConfig norm = family("llama", false);
  norm.qk_norm = true;
  EXPECT_NE(refusal(norm).find("qk_norm: true"), std::string::npos);
  ModelConfig mixed = family("mistral", false);
  mixed.layer_types = {"full_attention", "sliding_attention"};
  EXPECT_FALSE(refusal(mixed).empty());
  ModelConfig bias = family("mistral", false);
  bias.attention_bias = true;
  EXPECT_NE(refusal(bias).find("attention_bias: true"), std::string::npos);
  ModelConfig grouped = family("gpt2", true);
  grouped.num_key_value_heads = 2;
  EXPECT_NE(refusal(grouped).find("num_key_value_heads: 2"), std::string::npos);
}

class ConvertFaults : public ::testing::Test {
 protected:
  ConvertFaults() : hf_(folder_in(parent_, "hf")) {
    export_hf_model(*open_checkpoint_weights(make_checkpoint(model_, parent_.file("run"))), model_,
                    {}, {{}, 4000}, hf_);
  }
  std::string index() const { return hf_ + "/model.safetensors.index.json"; }
  void change_index(const std::string& tensor, const std::string& file) {
    auto json = nlohmann::json::parse(read_file(index()));
    json["weight_map"][tensor] = file;
    write_file(index(), json.dump());
  }
  std::string fault() {
    const std::string folder = folder_in(parent_, "out");
    return testing::error_of([&] { import_hf_model(hf_, model_, "name: x\n", {}, folder); },
                             ExitCode::bad_input);
  }
  // All tensors in one file, changed by `edit`.
  void rewrite(const std::function<void(std::vector<std::pair<std::string, Tensor>>*)>& edit) {
    const std::string other = folder_in(parent_, "other");
    {
      const HfTensors tensors(hf_);
      std::vector<std::pair<std::string, Tensor>> all;
      for (const std::string& name : tensors.names()) all.emplace_back(name, tensors.tensor(name));
      edit(&all);
      write_safetensors(shard_of_model(other), all);
    }
    fs::copy_file(shard_of_model(other), shard_of_model(hf_));
  }

  testing::TemporaryDirectory parent_;
  ModelConfig model_ = family("llama", false);
  std::string hf_;
};

TEST_F(ConvertFaults, AnIndexNamesOnlyFilesBesideIt) {
  for (const char* file : {"../other.safetensors", "/etc/passwd", "..", ".", "", "a/b"}) {
    change_index("model.norm.weight", file);
    EXPECT_NE(fault().find("is no name of a file beside it"), std::string::npos) << file;
  }
  change_index("model.norm.weight", "gone.safetensors");
  EXPECT_NE(fault().find("names the file gone.safetensors (of tensor model.norm.weight), which is "
                         "missing"),
            std::string::npos);
}

TEST_F(ConvertFaults, AnIndexSaysWhereATensorIs) {
  const auto json = nlohmann::json::parse(read_file(index()));
  change_index("model.norm.weight", json["weight_map"]["model.embed_tokens.weight"]);
  EXPECT_NE(fault().find("tensor model.norm.weight is not in its file"), std::string::npos);
  for (const char* text : {"", "{}", "[]", "{\"weight_map\": 3}"}) {
    write_file(index(), text);
    EXPECT_NE(fault().find("index.json is damaged"), std::string::npos) << text;
  }
}

TEST_F(ConvertFaults, ATruncatedShard) {
  const auto json = nlohmann::json::parse(read_file(index()));
  const std::string file = hf_ + "/" + json["weight_map"]["lm_head.weight"].get<std::string>();
  fs::resize_file(file, fs::file_size(file) - 1);
  EXPECT_NE(fault().find(file + ": truncated or damaged"), std::string::npos);
}

TEST_F(ConvertFaults, AMissingTensorAndAWrongShape) {
  rewrite(
      [](auto* all) { std::erase_if(*all, [](auto& t) { return t.first == "lm_head.weight"; }); });
  EXPECT_NE(fault().find("the tensor lm_head.weight (for head.weight) is missing"),
            std::string::npos);
  fs::remove(shard_of_model(hf_));
  rewrite([](auto* all) {
    for (auto& [name, t] : *all)
      if (name == "lm_head.weight") t = t.slice(0, 0, 50);
  });
  EXPECT_NE(fault().find("tensor lm_head.weight has shape [50, 16], the model wants [53, 16]"),
            std::string::npos);
}

TEST_F(ConvertFaults, WhatIsTooMuchIsNamed) {
  testing::TensorBox box(1 << 20);
  rewrite([&](auto* all) {
    all->emplace_back("adapter.weight", box.zeros(DType::f32, {3}));
    all->emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", box.zeros(DType::f32, {2}));
  });
  const auto made = import_hf_model(hf_, model_, "name: x\n", {}, folder_in(parent_, "out"));
  EXPECT_EQ(made.extra_tensors, std::vector<std::string>{"adapter.weight"});
}

TEST_F(ConvertFaults, ATiedHeadMayBeStoredTwice) {
  ModelConfig tied = model_;
  tied.tie_word_embeddings = true;
  const auto extra = [&] {
    return import_hf_model(hf_, tied, "name: x\n", {}, folder_in(parent_, "out")).extra_tensors;
  };
  EXPECT_EQ(extra(), std::vector<std::string>{"lm_head.weight"}) << "which differs";
  rewrite([](auto* all) {
    Tensor table;
    for (auto& [name, t] : *all)
      if (name == "model.embed_tokens.weight") table = t;
    for (auto& [name, t] : *all)
      if (name == "lm_head.weight") t = table;
  });
  EXPECT_TRUE(extra().empty());
}

TEST_F(ConvertFaults, VerifyReadsEverything) {
  EXPECT_NE(describe_hf_model(hf_, true).find("verified: every tensor"), std::string::npos);
  testing::TensorBox box(1 << 20);
  const Tensor bad = box.zeros(DType::f32, {16});
  bad.ptr<float>()[3] = std::nanf("");
  rewrite([&](auto* all) {
    for (auto& [name, t] : *all)
      if (name == "model.norm.weight") t = bad;
  });
  EXPECT_NE(describe_hf_model(hf_, false).find("model.norm.weight"), std::string::npos);
  EXPECT_NE(testing::error_of([&] { describe_hf_model(hf_, true); }, ExitCode::bad_input)
                .find("tensor model.norm.weight is damaged: element 3 is nan"),
            std::string::npos);
}

TEST_F(ConvertFaults, WithoutMomentsNoRunGoesOn) {
  const std::string checkpoint = folder_in(parent_, "out");
  import_hf_model(hf_, model_, "name: x\n", {}, checkpoint);
  EXPECT_NE(describe_checkpoint(checkpoint, true).find("no moments"), std::string::npos);
  ParameterStore store(DType::f32, StoreUse::inference);
  Decoder decoder(store, model_, 1);
  EXPECT_NE(testing::error_of(
                [&] { load_checkpoint(Context{}, checkpoint, store, CheckpointUse::training); },
                ExitCode::bad_input)
                .find("give it as init.from"),
            std::string::npos);
}

TEST_F(ConvertFaults, TheModelIsNotTheCheckpoints) {
  ModelConfig other = model_;
  other.num_hidden_layers = 1;
  const std::string run = parent_.file("run/step-00000003");
  const auto made =
      export_hf_model(*open_checkpoint_weights(run), other, {}, {}, folder_in(parent_, "less"));
  EXPECT_FALSE(made.extra_tensors.empty());
  other.num_hidden_layers = 3;
  EXPECT_NE(testing::error_of(
                [&] {
                  export_hf_model(*open_checkpoint_weights(run), other, {}, {},
                                  folder_in(parent_, "more"));
                },
                ExitCode::bad_input)
                .find("no tensor model/layers.2"),
            std::string::npos);
}

}  // namespace
}  // namespace forja

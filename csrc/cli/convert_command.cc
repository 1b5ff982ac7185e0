// SPDX-License-Identifier: Apache-2.0
// forja convert SRC DST
#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "csrc/cli/checks.h"
#include "csrc/cli/gguf_tokenizer.h"
#include "csrc/cli/load_model.h"
#include "csrc/cli/new_directory.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/checkpoint/convert.h"
#include "forja/checkpoint/gguf_model.h"
#include "forja/checkpoint/peft.h"
#include "forja/cli/commands.h"

namespace forja {
namespace {
namespace fs = std::filesystem;

struct ConvertArguments {
  std::string source, target, dtype = "auto", tokenizer;
  uint64_t max_shard_bytes = 5'000'000'000;
  bool merge = false;

  bool to_gguf() const { return target.ends_with(".gguf"); }
};

// What may lie beside a tokenizer in a model's directory and belongs to it.
constexpr const char* kCompanions[] = {"tokenizer.json",
                                       "tokenizer.model",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "added_tokens.json",
                                       "chat_template.jinja",
                                       "vocab.json",
                                       "merges.txt",
                                       "generation_config.json"};

// transformers wants to know the class of a tokenizer and its special tokens.
void write_tokenizer_config(const Tokenizer& tokenizer, int64_t max_length,
                            const std::string& folder) {
  const std::string file = folder + "/tokenizer_config.json";
  if (fs::exists(file)) return;
  const bool sentencepiece = tokenizer.kind() == "SentencePiece";
  nlohmann::ordered_json json = {
      {"tokenizer_class", sentencepiece ? "LlamaTokenizer" : "PreTrainedTokenizerFast"},
      {"clean_up_tokenization_spaces", false},
      {"model_max_length", max_length}};
  if (const auto id = tokenizer.bos_id()) json["bos_token"] = tokenizer.token_text(*id);
  if (const auto id = tokenizer.eos_id()) json["eos_token"] = tokenizer.token_text(*id);
  write_file(file, json.dump(2) + "\n");
}

// Copies a tokenizer (a file or a directory; "": there is none) and returns its special tokens.
SpecialIds add_tokenizer(const std::string& path, const ModelConfig& model,
                         const std::string& folder) {
  if (path.empty()) return {};
  const auto tokenizer = load_tokenizer(path);
  if (tokenizer->vocab_size() > model.vocab_size) {
    fail_input("the tokenizer {} has {} ids, the model has {}: they do not belong together", path,
               tokenizer->vocab_size(), model.vocab_size);
  }
  if (fs::is_directory(path)) {
    for (const std::string name : kCompanions) {
      if (fs::exists(path + "/" + name))
        write_file(folder + "/" + name, read_file(path + "/" + name));
    }
  } else {
    copy_tokenizer(path, folder);
  }
  return {tokenizer->bos_id(), tokenizer->eos_id()};
}

// "a, b and 7 more tensors"
std::string in_words(std::vector<std::string> names) {
  constexpr size_t kNamed = 8;
  const size_t more = names.size() > kNamed ? names.size() - kNamed : 0;
  names.resize(names.size() - more);
  return join(names, ", ") + (more ? fmt::format(" and {} more tensors", more) : "");
}

void warn_of_extra_tensors(const ConvertArguments& a, const std::vector<std::string>& names) {
  if (!names.empty()) log_warning("{}: the model has no use for {}", a.source, in_words(names));
}

void tell(const ConvertArguments& a, const char* kind, const ConvertedModel& result) {
  warn_of_extra_tensors(a, result.extra_tensors);
  log_info("{}: {}, {} parameters, {} as {} in {} {}", a.target, kind, result.num_parameters,
           format_bytes(double(result.num_bytes)), dtype_name(result.dtype), result.num_shards,
           result.num_shards == 1 ? "file" : "files");
}

// `automatic`: what "auto" means; nothing: as the source has it.
ConvertOptions options_of(const ConvertArguments& a, std::optional<DType> automatic) {
  ConvertOptions options;
  options.max_shard_bytes = int64_t(a.max_shard_bytes);
  if (a.dtype == "auto") options.dtype = automatic;
  if (a.dtype == "fp32") options.dtype = DType::f32;
  if (a.dtype == "bf16") options.dtype = DType::bf16;
  return options;
}

// What a model is exported from.
struct ExportSource {
  std::string path;  // checkpoint, PEFT directory or Hugging Face directory
  ModelConfig model;
  std::string tokenizer;          // "": none
  std::optional<DType> computed;  // the precision of the run
  std::string base;               // of a run with frozen parameters
};

void warn_of_no_tokenizer(const ConvertArguments& a) {
  log_warning("{}: converting without a tokenizer, it has none; --tokenizer FILE gives one",
              a.source);
}

ExportSource find_source(const ConvertArguments& a) {
  if (file_exists(a.source + "/config.json")) {
    const std::string own = has_tokenizer(a.source) ? a.source : "";
    if (a.tokenizer.empty() && own.empty()) warn_of_no_tokenizer(a);
    return {a.source, model_of(a.source), a.tokenizer.empty() ? own : a.tokenizer, std::nullopt,
            ""};
  }
  if (is_peft_directory(a.source)) {
    const ModelSource found = find_model(a.source, a.tokenizer);
    return {found.weights, found.model, found.tokenizer, std::nullopt,
            read_peft_config(a.source).base};
  }
  const std::string checkpoint = find_checkpoint(a.source);
  const RunConfig run = run_of_checkpoint(checkpoint);
  const std::string tokenizer = a.tokenizer.empty() ? tokenizer_of_run(run) : a.tokenizer;
  if (tokenizer.empty()) {
    log_warning("{}: converting without a tokenizer: {}; --tokenizer FILE gives one", a.source,
                run.data.tokenizer.empty()
                    ? "the run names none"
                    : "the run's " + run.data.tokenizer + " is gone, and so is its data");
  }
  return {checkpoint, run.model, tokenizer, run.compute_dtype(), run.init.from};
}

// A whole model, with the adapters added to its weights.
void export_model(const ConvertArguments& a, const ExportSource& source) {
  NewDirectory target(a.target);
  ModelConfig model = source.model;
  model.lora = {};
  const SpecialIds ids = add_tokenizer(source.tokenizer, model, target.path());
  const std::string generation = target.path() + "/generation_config.json";
  const std::string kept = fs::exists(generation) ? read_file(generation) : "";
  auto weights = open_weights(source.path);
  if (source.model.lora.is_on()) weights = merge_adapters(std::move(weights), source.model);
  const ConvertedModel result =
      export_hf_model(*weights, model, ids, options_of(a, source.computed), target.path());
  if (!kept.empty()) write_file(generation, kept);
  if (!source.tokenizer.empty()) {
    write_tokenizer_config(*load_tokenizer(source.tokenizer), model.max_position_embeddings,
                           target.path());
  }
  target.commit();
  tell(a,
       source.model.lora.is_on() ? "Hugging Face model with the adapters merged"
                                 : "Hugging Face model",
       result);
}

// The adapters alone.
void export_adapter(const ConvertArguments& a, const ExportSource& source) {
  for (const ParameterSpec& spec : parameters_of(source.model)) {
    const RunConfig run = run_of_checkpoint(source.path);
    if (spec.adapter || !run.rules().trains(spec)) continue;
    fail_input(
        "{} was trained beside the adapters, and a PEFT directory has no place for it: give "
        "--merge",
        spec.name);
  }
  NewDirectory target(a.target);
  add_tokenizer(source.tokenizer, source.model, target.path());
  const DType dtype = options_of(a, DType::f32).dtype.value_or(DType::f32);
  const int64_t bytes = write_peft_adapter(*open_weights(source.path), source.model, source.base,
                                           dtype, target.path());
  target.commit();
  log_info("{}: PEFT adapter of {}, {} as {}; --merge makes a whole model instead", a.target,
           source.base, format_bytes(double(bytes)), dtype_name(dtype));
}

GgufType gguf_type(const std::string& dtype) {
  if (dtype == "q8_0") return GgufType::q8_0;
  if (dtype == "bf16") return GgufType::bf16;
  return dtype == "fp32" ? GgufType::f32 : GgufType::f16;
}

void tell_gguf(const ConvertArguments& a, const ExportSource& source, const GgufExport& result) {
  warn_of_extra_tensors(a, result.extra_tensors);
  if (!result.not_quantized.empty()) {
    log_warning("rows that are no multiple of {} stay fp16: {}", kQ8BlockElements,
                in_words(result.not_quantized));
  }
  if (const auto length = same_until(source.model)) {
    log_warning(
        "llama.cpp's architecture for {} has no sliding window: up to {} tokens it computes this "
        "model, in longer texts it attends to more",
        source.model.model_type, *length);
  }
  log_info("{}: GGUF file{}, {} parameters, {} as {}", a.target,
           source.model.lora.is_on() ? " with the adapters merged" : "", result.num_parameters,
           format_bytes(double(result.num_bytes)), gguf_type_name(result.type));
}

// A whole model in one file, with the adapters added to its weights.
void export_gguf_file(const ConvertArguments& a, const ExportSource& source) {
  if (source.model.lora.is_on() && !a.merge)
    fail_input("{} has adapters, and a GGUF file has no place for them: give --merge", a.source);
  if (file_exists(a.target))
    fail_input("{} is there already: choose another name, or remove it", a.target);
  const std::string folder = fs::path(a.target).parent_path().string();
  if (!folder.empty()) make_directories(folder);
  check_writable(folder.empty() ? "." : folder);
  ModelConfig model = source.model;
  model.lora = {};
  auto weights = open_weights(source.path);
  if (source.model.lora.is_on()) weights = merge_adapters(std::move(weights), source.model);
  std::optional<GgufType> type;
  if (a.dtype != "source") type = gguf_type(a.dtype);
  const std::string name = fs::path(a.target).stem().string();
  tell_gguf(a, source,
            export_gguf(*weights, model, name, gguf_tokenizer(source.tokenizer, model.vocab_size),
                        type, a.target));
}

void export_source(const ConvertArguments& a) {
  const ExportSource source = find_source(a);
  const bool adapted = source.model.lora.is_on();
  if (a.merge && !adapted) fail_input("{} has no adapters to merge", a.source);
  if (a.to_gguf()) return export_gguf_file(a, source);
  if (adapted && !a.merge && is_peft_directory(a.source))
    fail_input("{} is a PEFT adapter already: --merge makes a whole model of it", a.source);
  if (adapted && !a.merge) return export_adapter(a, source);
  export_model(a, source);
}

// The configuration that goes with an imported checkpoint: the model, its tokenizer beside it, and
// the precision of its weights. It was not trained by it, so all else is the default.
std::string imported_config(const ModelConfig& model, bool has_tokenizer, DType dtype) {
  RunConfig run;
  run.name = "imported";
  run.model = model;
  run.data.tokenizer = has_tokenizer ? "." : "";
  run.data.sequence_length = std::min(run.data.sequence_length, model.max_position_embeddings);
  run.train.steps = 1;  // a run has a length
  run.train.precision = dtype == DType::bf16 ? "bf16" : "fp32";
  return run.to_yaml();
}

void import_model(const ConvertArguments& a) {
  const ModelConfig model = read_model_config(a.source + "/config.json");
  const std::string tokenizer = !a.tokenizer.empty()      ? a.tokenizer
                                : has_tokenizer(a.source) ? a.source
                                                          : "";
  NewDirectory target(a.target);
  if (tokenizer.empty()) warn_of_no_tokenizer(a);
  const ConvertOptions options = options_of(a, std::nullopt);
  add_tokenizer(tokenizer, model, target.path());
  const std::string config = imported_config(model, !tokenizer.empty(),
                                             options.dtype.value_or(hf_weights_dtype(a.source)));
  const ConvertedModel result = import_hf_model(a.source, model, config, options, target.path());
  target.commit();
  tell(a, "checkpoint", result);
}

}  // namespace

void add_convert_command(CLI::App& app) {
  auto a = std::make_shared<ConvertArguments>();
  CLI::App* command = app.add_subcommand(
      "convert",
      "A checkpoint to a Hugging Face model, a Hugging Face model to a checkpoint, or either to a "
      "GGUF file");
  command
      ->add_option("source", a->source,
                   "Run directory (its newest checkpoint), checkpoint, Hugging Face directory or "
                   "PEFT adapter")
      ->required();
  command
      ->add_option("target", a->target,
                   "Directory to make, of the other kind; or FILE.gguf, for llama.cpp")
      ->required();
  command
      ->add_option("--dtype", a->dtype,
                   "Of the weights. source: as they are stored; auto: to Hugging Face as the run "
                   "computed (bf16 or fp32), from there as they are stored, to GGUF fp16. fp16 and "
                   "q8_0 are for GGUF only")
      ->check(CLI::IsMember({"auto", "fp32", "bf16", "source", "fp16", "q8_0"}))
      ->capture_default_str();
  const CLI::Option* sharded =
      command
          ->add_option("--max-shard-size", a->max_shard_bytes,
                       "Bytes of tensors in a file, e.g. 500MB, 5GB (10^9) or 5GiB (2^30)")
          ->transform(CLI::AsSizeValue(true))
          ->check(number_from(1))
          ->capture_default_str();
  command->add_flag("--merge", a->merge,
                    "Add adapters to the weights, for a whole Hugging Face model; else they become "
                    "a PEFT adapter");
  command->add_option("--tokenizer", a->tokenizer,
                      "Tokenizer file or directory (default: the model's own)");
  command->callback([a, sharded] {
    if (!fs::is_directory(a->source)) {
      fail_input("no model at {}: expected a run, a checkpoint or a Hugging Face directory",
                 a->source);
    }
    if (!a->to_gguf() && (a->dtype == "fp16" || a->dtype == "q8_0")) {
      fail_input("--dtype {} is for GGUF: give a target that ends with .gguf, or fp32 or bf16",
                 a->dtype);
    }
    if (a->to_gguf() && sharded->count() > 0)
      fail_input("--max-shard-size: a GGUF file is one file, whatever its size");
    if (a->to_gguf() || !fs::exists(a->source + "/config.json")) return export_source(*a);
    if (a->merge) fail_input("{} has no adapters to merge", a->source);
    import_model(*a);
  });
}

}  // namespace forja

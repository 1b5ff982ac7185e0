// SPDX-License-Identifier: Apache-2.0
// Reads Hugging Face's tokenizer.json (the format of the "tokenizers" library, version 1.0).
#include <unordered_map>

#include "csrc/data/bpe_tokenizer.h"
#include "csrc/data/split_pattern.h"
#include "forja/base/error.h"
#include "forja/base/json.h"

namespace forja {
namespace {

using Json = nlohmann::json;

// Ids are below the larger of this and kIdsPerToken times the number of tokens: a table by id stays
// in proportion to the file.
constexpr int64_t kFewIds = 1 << 16, kIdsPerToken = 8;
const char* const kMark = "\xE2\x96\x81";

class JsonReader {
 public:
  JsonReader(const std::string& path, BpeSpec* spec) : path_(path), spec_(*spec) {}

  void read(const Json& root) {
    if (!root.is_object() || !root.contains("model"))
      fault("has no \"model\": not a tokenizer.json");
    const size_t tokens = part(root["model"], "vocab").size() + part(root, "added_tokens").size();
    max_ids_ = std::max(kFewIds, kIdsPerToken * int64_t(tokens));
    read_model(root["model"]);
    read_added(part(root, "added_tokens"));
    read_normalizer(part(root, "normalizer"));
    read_pre_tokenizer(part(root, "pre_tokenizer"), true);
    read_post_processor(part(root, "post_processor"));
    read_decoder(part(root, "decoder"));
    if (spec_.alphabet == BpeAlphabet::bytes && !byte_level_) {
      fault("needs the pre_tokenizer ByteLevel, or a model with byte_fallback");
    }
    spec_.kind = spec_.alphabet == BpeAlphabet::bytes ? "byte-level BPE" : "BPE with byte fallback";
  }

  void read_names(const Json& config) {
    spec_.eos_id = find_first(spec_.added, kUsualEosNames);
    spec_.bos_id = template_bos_ ? template_bos_ : find_first(spec_.added, kUsualBosNames);
    if (const auto named = named_token(config, "eos_token")) spec_.eos_id = named;
    if (const auto named = named_token(config, "bos_token")) spec_.bos_id = named;
    if (config.contains("add_bos_token") && config["add_bos_token"].is_boolean()) {
      spec_.adds_bos = config["add_bos_token"].get<bool>();
    }
  }

 private:
  template <class... Args>
  [[noreturn]] void fault(fmt::format_string<Args...> format, Args&&... args) const {
    fail_input("{}: {}", path_, fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void unsupported(const char* component, const Json& found) const {
    fault("the {} {} is not supported", component, in_words(found));
  }

  static std::string in_words(const Json& json) { return json.dump().substr(0, 200); }
  static const Json& part(const Json& object, const char* key) {
    static const Json null;
    const auto at = object.find(key);
    return at == object.end() ? null : *at;
  }
  static std::string type_of(const Json& component) {
    return component.value("type", std::string());
  }
  static bool flag(const Json& component, const char* key, bool otherwise) {
    const Json& value = part(component, key);
    return value.is_boolean() ? value.get<bool>() : otherwise;
  }

  static int64_t whole(const Json& component, const char* key) {
    const Json& value = part(component, key);
    return value.is_number_integer() ? value.get<int64_t>() : 0;
  }

  void read_model(const Json& model) {
    const std::string type = model.is_object() ? model.value("type", std::string("BPE")) : "";
    if (type != "BPE") fault("the model \"{}\" is not supported, only BPE", type);
    if (!part(model, "vocab").is_object() || !part(model, "merges").is_array()) {
      fault("the BPE model needs a \"vocab\" mapping and a \"merges\" list");
    }
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const Json& value = part(model, key);
      if (!value.is_null() && value != "") fault("{} {} is not supported", key, in_words(value));
    }
    const Json& dropout = part(model, "dropout");
    if (!dropout.is_null() && dropout != 0.0)
      fault("BPE dropout {} is not supported", in_words(dropout));
    spec_.alphabet =
        flag(model, "byte_fallback", false) ? BpeAlphabet::characters : BpeAlphabet::bytes;
    spec_.ignore_merges = flag(model, "ignore_merges", false);
    read_vocab(model["vocab"]);
    read_merges(model["merges"]);
  }

  void read_vocab(const Json& vocab) {
    ids_.reserve(vocab.size() * 2);
    std::string bytes;
    for (const auto& [text, value] : vocab.items()) {
      const int64_t id = id_of("token", text, value);
      if (size_t(id) >= spec_.tokens.size()) spec_.tokens.resize(size_t(id) + 1);
      if (!spec_.tokens[size_t(id)].empty()) fault("two tokens have the id {}", id);
      const bool spelt = spec_.alphabet == BpeAlphabet::bytes && byte_level_bytes(text, &bytes);
      spec_.tokens[size_t(id)] = spelt ? bytes : text;
      ids_[text] = int32_t(id);
    }
    if (spec_.tokens.empty()) fault("the vocabulary is empty");
  }

  int32_t id_of(const char* kind, const std::string& text, const Json& id) const {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= uint64_t(max_ids_)) {
      fault("the id of the {} {} is {}, expected a whole number in 0..{}", kind, shown(text),
            shown(id), max_ids_ - 1);
    }
    return id.get<int32_t>();
  }

  // A merge is "left right" or ["left", "right"].
  void read_merges(const Json& merges) {
    spec_.merges.reserve(merges.size());
    for (const Json& merge : merges) {
      std::string left, right;
      if (merge.is_string()) {
        const auto& text = merge.get_ref<const std::string&>();
        const size_t space = text.find(' ');
        if (space == text.npos) fault("merge {} is not two tokens", in_words(merge));
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      } else {
        fault("merge {} is not two tokens", in_words(merge));
      }
      spec_.merges.push_back({token_of(left, merge), token_of(right, merge),
                              int32_t(spec_.merges.size()), token_of(left + right, merge)});
    }
  }

  int32_t token_of(const std::string& text, const Json& merge) const {
    const auto at = ids_.find(text);
    if (at == ids_.end())
      fault("merge {} needs the token {}, which the vocabulary lacks", in_words(merge),
            shown(text));
    return at->second;
  }

  void read_added(const Json& added) {
    if (added.is_null()) return;
    if (!added.is_array()) fault("\"added_tokens\" is not a list");
    for (const Json& token : added) {
      const Json& id = part(token, "id");
      const Json& content = part(token, "content");
      if (!id.is_number_integer() || !content.is_string())
        fault("added token {} needs an id and a content", in_words(token));
      spec_.added.push_back({id_of("added token", content.get<std::string>(), id),
                             content.get<std::string>(), flag(token, "special", false),
                             flag(token, "lstrip", false), flag(token, "rstrip", false),
                             flag(token, "single_word", false), flag(token, "normalized", false)});
    }
  }

  void read_normalizer(const Json& normalizer) {
    if (normalizer.is_null()) return;
    const std::string type = type_of(normalizer);
    if (type == "Sequence" && part(normalizer, "normalizers").is_array()) {
      for (const Json& child : normalizer["normalizers"]) read_normalizer(child);
    } else if (type == "NFC") {
      spec_.nfc = true;
    } else if (type == "Prepend" && part(normalizer, "prepend") == kMark) {
      spec_.prefix = kMark;
      spec_.prefix_place = PrefixPlace::every_part;
    } else if (type == "Replace" && part(normalizer, "pattern") == Json{{"String", " "}} &&
               part(normalizer, "content") == kMark) {
      spec_.spaces_to_marks = true;
    } else {
      unsupported("normalizer", normalizer);
    }
  }

  // `outermost`: nothing cut the text before.
  void read_pre_tokenizer(const Json& pre, bool outermost) {
    if (pre.is_null()) return;
    const std::string type = type_of(pre);
    if (type == "Sequence" && part(pre, "pretokenizers").is_array()) {
      for (const Json& child : pre["pretokenizers"]) {
        read_pre_tokenizer(child, outermost);
        outermost = false;
      }
    } else if (type == "Split") {
      read_split(pre);
    } else if (type == "Digits") {
      spec_.split_patterns.push_back(flag(pre, "individual_digits", false) ? R"(\p{N})"
                                                                           : R"(\p{N}+)");
    } else if (type == "ByteLevel") {
      byte_level_ = true;
      if (flag(pre, "add_prefix_space", true)) {
        if (!outermost)
          fault(
              "a pre_tokenizer ByteLevel with add_prefix_space after another one is not supported");
        spec_.prefix = " ";
        spec_.prefix_place = PrefixPlace::every_part;
        spec_.prefix_only_if_missing = true;
      }
      if (flag(pre, "use_regex", true)) spec_.split_patterns.push_back(kGpt2Pattern);
    } else if (type == "Metaspace" && spec_.alphabet == BpeAlphabet::characters) {
      read_metaspace(pre);
    } else {
      unsupported("pre_tokenizer", pre);
    }
  }

  void read_split(const Json& split) {
    const Json& pattern = part(split, "pattern");
    const bool regex = pattern.is_object() && part(pattern, "Regex").is_string();
    if (!regex || flag(split, "invert", false) || part(split, "behavior") != "Isolated") {
      unsupported("pre_tokenizer", split);
    }
    spec_.split_patterns.push_back(pattern["Regex"].get<std::string>());
  }

  void read_metaspace(const Json& pre) {
    if (part(pre, "replacement") != kMark) unsupported("pre_tokenizer", pre);
    const bool legacy_prefix = flag(pre, "add_prefix_space", true);
    const std::string scheme =
        pre.value("prepend_scheme", std::string(legacy_prefix ? "always" : "never"));
    spec_.spaces_to_marks = true;
    spec_.prefix = kMark;
    spec_.prefix_only_if_missing = true;
    spec_.prefix_place = scheme == "always"  ? PrefixPlace::every_part
                         : scheme == "first" ? PrefixPlace::first_part
                                             : PrefixPlace::nowhere;
    spec_.split_at_marks = flag(pre, "split", true);
  }

  // Only what comes before the text matters: the beginning-of-text token.
  void read_post_processor(const Json& post) {
    if (post.is_null()) return;
    const std::string type = type_of(post);
    if (type == "ByteLevel") return;
    if (type == "Sequence" && part(post, "processors").is_array()) {
      for (const Json& child : post["processors"]) read_post_processor(child);
    } else if (type == "TemplateProcessing" && part(post, "single").is_array()) {
      const Json& first = post["single"].empty() ? part(post, "") : post["single"][0];
      const Json& special = part(first, "SpecialToken");
      if (!special.is_object()) return;
      const std::string name = special.value("id", std::string());
      template_bos_ = find_first(spec_.added, {name});
      if (!template_bos_)
        fault("the post_processor puts {} first, which is no added token", shown(name));
      spec_.adds_bos = true;
    } else {
      unsupported("post_processor", post);
    }
  }

  void read_decoder(const Json& decoder) {
    if (decoder.is_null()) return;
    const std::string type = type_of(decoder);
    if (type == "Sequence" && part(decoder, "decoders").is_array()) {
      for (const Json& child : decoder["decoders"]) read_decoder(child);
    } else if (type == "Strip" && part(decoder, "content") == " " && whole(decoder, "stop") == 0) {
      spec_.strips_first_space = whole(decoder, "start") == 1;
    } else if (type == "Metaspace") {
      spec_.strips_first_space = spec_.prefix_place != PrefixPlace::nowhere;
    } else if (type != "ByteLevel" && type != "ByteFallback" && type != "Fuse" &&
               type != "Replace") {
      unsupported("decoder", decoder);
    }
  }

  // A token of tokenizer_config.json: "text" or {"content": "text"}.
  std::optional<int32_t> named_token(const Json& config, const char* key) const {
    const Json& value = config.is_object() ? part(config, key) : part(Json::object(), key);
    const Json& content = value.is_object() ? part(value, "content") : value;
    if (!content.is_string()) return std::nullopt;
    return find_first(spec_.added, {content.get<std::string>()});
  }

  const std::string& path_;
  BpeSpec& spec_;
  std::unordered_map<std::string, int32_t> ids_;  // of the model, by the file's text
  std::optional<int32_t> template_bos_;
  int64_t max_ids_ = kFewIds;
  bool byte_level_ = false;
};

Json parse(std::string_view text, const std::string& path) {
  try {
    return parse_json(text);
  } catch (const Error& e) {
    fail_input("{}: {}", path, e.what());
  }
}

}  // namespace

BpeSpec read_tokenizer_json(std::string_view text, const std::string& path,
                            const std::string& config_text) {
  BpeSpec spec;
  JsonReader reader(path, &spec);
  try {
    reader.read(parse(text, path));
    const std::string config_path = path + " (its tokenizer_config.json)";
    reader.read_names(config_text.empty() ? Json::object() : parse(config_text, config_path));
  } catch (const Json::exception& e) {
    fail_input("{}: a value has the wrong type: {}", path, e.what());
  }
  return spec;
}

}  // namespace forja

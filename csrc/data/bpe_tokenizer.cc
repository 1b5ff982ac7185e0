// SPDX-License-Identifier: Apache-2.0
#include "csrc/data/bpe_tokenizer.h"

#include <algorithm>
#include <mutex>

#include "csrc/data/nfc.h"
#include "csrc/data/split_pattern.h"
#include "forja/base/error.h"

namespace forja {

const std::vector<std::string> kUsualEosNames = {"<|endoftext|>", "</s>", "<|end_of_text|>",
                                                 "<eos>"};
const std::vector<std::string> kUsualBosNames = {"<|begin_of_text|>", "<s>", "<bos>"};

std::optional<int32_t> find_first(const std::vector<AddedToken>& added,
                                  const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    for (const AddedToken& token : added) {
      if (token.content == name) return token.id;
    }
  }
  return std::nullopt;
}

namespace {

constexpr std::string_view kMark = "\xE2\x96\x81";  // U+2581, SentencePiece's space

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  out.reserve(text.size() + text.size() / 4);
  size_t at = 0;
  for (size_t found; (found = text.find(from, at)) != text.npos; at = found + from.size()) {
    out += text.substr(at, found - at);
    out += to;
  }
  out += text.substr(at);
  return out;
}

// The byte of "<0x0A>", or -1.
int byte_token(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  const int high = digit(text[3]), low = digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

// True when no token continues past a word: merges never cross from another character to a mark, so
// that cutting there changes nothing and short pieces come out of the cache.
bool words_are_separate(const std::vector<std::string>& tokens) {
  return std::none_of(tokens.begin(), tokens.end(), [](std::string_view token) {
    while (token.starts_with(kMark)) token.remove_prefix(kMark.size());
    return token.find(kMark) != token.npos;
  });
}

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(BpeSpec spec, uint64_t hash)
      : spec_(std::move(spec)),
        model_(spec_.tokens, spec_.merges, spec_.alphabet, spec_.ignore_merges) {
    kind_ = spec_.kind;
    hash_ = hash;
    bos_id_ = spec_.bos_id;
    eos_id_ = spec_.eos_id;
    adds_bos_ = spec_.adds_bos;
    strips_first_space_ = spec_.strips_first_space;
    words_separate_ = spec_.alphabet == BpeAlphabet::characters && words_are_separate(spec_.tokens);
    for (const std::string& pattern : spec_.split_patterns)
      splitters_.push_back(make_splitter(pattern));
    fill_tables();
    spec_.merges = {};
  }

  std::string_view token_bytes(int32_t id) const override { return bytes_[check_id(id)]; }

  std::string token_text(int32_t id) const override {
    const size_t i = check_id(id);
    if (added_ids_[i] || spec_.alphabet == BpeAlphabet::characters) {
      return i < spec_.tokens.size() && !spec_.tokens[i].empty() ? spec_.tokens[i] : bytes_[i];
    }
    std::string text;
    for (char byte : bytes_[i]) text += byte_level_character(uint8_t(byte));
    return text;
  }

  bool is_special(int32_t id) const override { return special_[check_id(id)]; }

  std::optional<int32_t> find_special(std::string_view content) const override {
    return find_first(spec_.added, {std::string(content)});
  }

 protected:
  void encode_text(std::string_view text, SpecialText special, std::vector<int32_t>* ids,
                   std::vector<size_t>* ends) const override {
    const ScratchLease lease(*this);
    // Where an offset of the part that is encoded is in `text`.
    std::vector<size_t> origins;
    size_t part_begin = 0;
    const auto origin = [&](size_t at) {
      return part_begin + (origins.empty() ? at : origins[at]);
    };
    const auto encode_plain = [&](std::string_view part, std::string_view whole) {
      const size_t before = ids->size();
      encode_part(part, lease.get(), ids);
      if (!ends) return;
      size_t at = size_t(part.data() - whole.data());
      const size_t end = at + part.size();
      for (size_t i = before; i < ids->size(); ++i) {
        at = i + 1 < ids->size() ? std::min(at + size_in_part((*ids)[i]), end) : end;
        ends->push_back(origin(at));
      }
    };
    const auto push = [&](int32_t id, size_t end) {
      ids->push_back(id);
      if (ends) ends->push_back(end);
    };
    raw_added_.split(
        text, special,
        [&](std::string_view part) {
          part_begin = size_t(part.data() - text.data());
          if (normalized_added_.empty() && !changes_text()) return encode_plain(part, part);
          const std::string normal = normalize(part, part_begin == 0);
          if (ends) origins = normal == part ? std::vector<size_t>() : origins_of(part, normal);
          normalized_added_.split(
              normal, special, [&](std::string_view p) { encode_plain(p, normal); },
              [&](int32_t id, size_t end) { push(id, ends ? origin(end) : 0); });
        },
        push);
  }

 private:
  struct Scratch {
    BpeScratch bpe;
    std::vector<std::vector<size_t>> ends;
  };

  // One thread's scratch for the length of a call; kept for the next call, with its cache.
  class ScratchLease {
   public:
    explicit ScratchLease(const BpeTokenizer& owner) : owner_(owner) {
      const std::lock_guard lock(owner.scratch_mutex_);
      if (!owner.free_scratch_.empty()) {
        scratch_ = std::move(owner.free_scratch_.back());
        owner.free_scratch_.pop_back();
      } else {
        scratch_ = std::make_unique<Scratch>();
        scratch_->ends.resize(owner.splitters_.size());
      }
    }
    ~ScratchLease() {
      const std::lock_guard lock(owner_.scratch_mutex_);
      owner_.free_scratch_.push_back(std::move(scratch_));
    }
    ScratchLease(const ScratchLease&) = delete;
    ScratchLease& operator=(const ScratchLease&) = delete;
    Scratch* get() const { return scratch_.get(); }

   private:
    const BpeTokenizer& owner_;
    std::unique_ptr<Scratch> scratch_;
  };

  void fill_tables() {
    vocab_size_ = int64_t(spec_.tokens.size());
    for (const AddedToken& token : spec_.added)
      vocab_size_ = std::max<int64_t>(vocab_size_, token.id + 1);
    bytes_ = spec_.tokens;
    bytes_.resize(size_t(vocab_size_));
    special_.assign(size_t(vocab_size_), false);
    added_ids_.assign(size_t(vocab_size_), false);
    if (spec_.alphabet == BpeAlphabet::characters) {
      for (std::string& token : bytes_) {
        const int byte = byte_token(token);
        token = byte >= 0 ? std::string(1, char(byte)) : replace_all(token, kMark, " ");
      }
    }
    for (AddedToken& token : spec_.added) {
      bytes_[size_t(token.id)] = token.content;
      special_[size_t(token.id)] = token.special;
      added_ids_[size_t(token.id)] = true;
      if (token.normalized && changes_text()) {
        AddedToken normal = token;
        normal.content = normalize(token.content, true);
        normalized_added_.add(normal);
      } else {
        raw_added_.add(token);
      }
    }
  }

  size_t check_id(int32_t id) const {
    if (id < 0 || id >= vocab_size_) {
      fail_input("token id {} is outside of the tokenizer's vocabulary of {}", id, vocab_size_);
    }
    return size_t(id);
  }

  bool changes_text() const {
    return spec_.nfc || spec_.spaces_to_marks || spec_.prefix_place != PrefixPlace::nowhere;
  }

  std::string normalize(std::string_view part, bool is_first) const {
    std::string text = spec_.nfc ? to_nfc(part) : std::string(part);
    if (spec_.spaces_to_marks) text = replace_all(text, " ", kMark);
    const bool here = spec_.prefix_place == PrefixPlace::every_part ||
                      (spec_.prefix_place == PrefixPlace::first_part && is_first);
    const bool missing = !spec_.prefix_only_if_missing || !text.starts_with(spec_.prefix);
    return here && missing && !text.empty() ? spec_.prefix + text : text;
  }

  // For each offset of `normal`, which is normalize(part), where what is before it ends in `part`.
  std::vector<size_t> origins_of(std::string_view part, std::string_view normal) const {
    std::vector<size_t> ends;  // of each byte of the normal text without its prefix
    for (size_t begin = 0, size = 0; begin < part.size(); begin += size) {
      size = spec_.nfc ? nfc_cluster_size(part.substr(begin)) : 1;
      const std::string_view cluster = part.substr(begin, size);
      const std::string changed = spec_.nfc ? to_nfc(cluster) : std::string(cluster);
      for (size_t i = 0; i < changed.size(); ++i) {
        const size_t bytes = spec_.spaces_to_marks && changed[i] == ' ' ? kMark.size() : 1;
        ends.insert(ends.end(), bytes, changed == cluster ? begin + i + 1 : begin + size);
      }
    }
    FORJA_CHECK(ends.size() <= normal.size(), "{} bytes become {}", ends.size(), normal.size());
    std::vector<size_t> origins(normal.size() - ends.size() + 1, 0);
    origins.insert(origins.end(), ends.begin(), ends.end());
    return origins;
  }

  // How many bytes of a part a token stands for.
  size_t size_in_part(int32_t id) const {
    const std::string& token = spec_.tokens[size_t(id)];
    return spec_.alphabet == BpeAlphabet::characters && byte_token(token) >= 0 ? 1 : token.size();
  }

  void encode_part(std::string_view part, Scratch* scratch, std::vector<int32_t>* ids) const {
    if (spec_.alphabet == BpeAlphabet::characters) return encode_words(part, scratch, ids);
    encode_split(part, 0, scratch, ids);
  }

  // Cuts by the patterns from `level` on and encodes the pieces.
  void encode_split(std::string_view part, size_t level, Scratch* scratch,
                    std::vector<int32_t>* ids) const {
    if (level == splitters_.size()) return model_.encode_piece(part, &scratch->bpe, ids);
    const bool last = level + 1 == splitters_.size();
    std::vector<size_t>& ends = scratch->ends[level];
    for (size_t begin = 0; begin < part.size();) {
      splitters_[level]->split(part, begin, &ends);
      for (size_t end : ends) {
        const std::string_view piece = part.substr(begin, end - begin);
        if (last) {
          model_.encode_piece(piece, &scratch->bpe, ids);
        } else {
          encode_split(piece, level + 1, scratch, ids);
        }
        begin = end;
      }
    }
  }

  // Text with marks: cut before the marks where that is asked for or changes nothing.
  void encode_words(std::string_view part, Scratch* scratch, std::vector<int32_t>* ids) const {
    size_t begin = 0;
    bool after_mark = true;
    for (size_t i = 0; i < part.size();) {
      const bool mark = part.substr(i, kMark.size()) == kMark;
      if (mark && i > begin && (spec_.split_at_marks || (words_separate_ && !after_mark))) {
        model_.encode_piece(part.substr(begin, i - begin), &scratch->bpe, ids);
        begin = i;
      }
      after_mark = mark;
      i += mark ? kMark.size() : 1;
    }
    if (begin < part.size()) model_.encode_piece(part.substr(begin), &scratch->bpe, ids);
  }

  BpeSpec spec_;
  BpeModel model_;
  std::vector<std::unique_ptr<Splitter>> splitters_;
  AddedTokenFinder raw_added_, normalized_added_;
  std::vector<std::string> bytes_;  // by id
  std::vector<bool> special_, added_ids_;
  bool words_separate_ = false;
  mutable std::mutex scratch_mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> free_scratch_;
};

}  // namespace

std::unique_ptr<Tokenizer> make_bpe_tokenizer(BpeSpec spec, uint64_t hash) {
  return std::make_unique<BpeTokenizer>(std::move(spec), hash);
}

}  // namespace forja

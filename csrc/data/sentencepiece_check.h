// SPDX-License-Identifier: Apache-2.0
// What SentencePiece's library takes on trust in a model, checked before it sees the model.
#pragma once

#include <string_view>

namespace forja {

// Throws bad_input for what is no serialised ModelProto, and for a normalisation map that the
// library would follow out of its memory.
void check_sentencepiece_model(std::string_view model);

}  // namespace forja

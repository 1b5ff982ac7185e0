// SPDX-License-Identifier: Apache-2.0
// Prompts, metrics and versions are those of lm-evaluation-harness 0.4.13; docs/evaluation.md has
// the names of its tasks beside these.
#include "csrc/data/eval/built_in_tasks.h"

#include <fmt/core.h>

namespace forja {
namespace {

constexpr const char* kText = R"(
name: text
version: 1
output_type: loglikelihood_rolling
metrics: [word_perplexity, byte_perplexity, bits_per_byte, token_perplexity]
)";

constexpr const char* kPiqa = R"(
name: piqa
version: 1
output_type: multiple_choice
file: valid.jsonl
labels_file: valid-labels.lst
fewshot_file: train.jsonl
doc_to_text: "Question: {{goal}}\nAnswer:"
doc_to_choice: ["{{sol1}}", "{{sol2}}"]
doc_to_target: "{{label}}"
metrics: [acc, acc_norm]
)";

constexpr const char* kBlimp = R"(
name: blimp
version: 1
output_type: multiple_choice
file: .jsonl
doc_to_choice: ["{{sentence_good}}", "{{sentence_bad}}"]
doc_to_target: "0"
metrics: [acc]
)";

constexpr const char* kLambada = R"(
name: lambada
version: 1
output_type: loglikelihood
file: .jsonl
doc_to_text: "{{text.split(' ')[:-1]|join(' ')}}"
doc_to_target: "{{text.split(' ')[-1]}}"
metrics: [perplexity, acc]
)";

constexpr const char* kMmlu = R"(
name: mmlu
version: 1
output_type: multiple_choice
file: _test.csv
fewshot_file: _dev.csv
columns: [question, choices, choices, choices, choices, answer]
description: "The following are multiple choice questions (with answers) about {{set_name|replace('_', ' ')}}.\n\n"
doc_to_text: "{{question.strip()}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nC. {{choices[2]}}\nD. {{choices[3]}}\nAnswer:"
doc_to_choice: [A, B, C, D]
doc_to_target: "{{answer}}"
fewshot_sampler: first_n
metrics: [acc]
)";

constexpr const char* kEsBbq = R"(
name: esbbq
version: 1
output_type: multiple_choice
file: .es.jsonl
doc_to_text: "Contexto: {{context}}\nPregunta: {{question}}\nRespuesta:"
doc_to_choice: ["{{ans0}}", "{{ans1}}", No hay suficiente información, No hay información suficiente, No lo sé, No sé, Falta información,
  No se puede responder, No se sabe, No se puede saber, No se puede determinar]
doc_to_target: "{{label}}"
metrics: [acc_ambig, acc_disambig, bias_score_ambig, bias_score_disambig]
)";

constexpr const char* kCaBbq = R"(
name: cabbq
version: 1
output_type: multiple_choice
file: .ca.jsonl
doc_to_text: "Context: {{context}}\nPregunta: {{question}}\nResposta:"
doc_to_choice: ["{{ans0}}", "{{ans1}}", No hi ha prou informació, No hi ha informació suficient, No ho sé, No sé, Falta informació,
  No es pot respondre, No se sap, No es pot saber, No es pot determinar]
doc_to_target: "{{label}}"
metrics: [acc_ambig, acc_disambig, bias_score_ambig, bias_score_disambig]
)";

constexpr const char* kGsm8k = R"(
name: gsm8k
version: 3
output_type: generate_until
file: test.jsonl
fewshot_file: train.jsonl
num_fewshot: 5
doc_to_text: "Question: {{question}}\nAnswer:"
doc_to_target: "{{answer}}"
until: ["Question:", </s>, <|im_end|>]
filters:
  - {name: strict-match, pattern: '#### \K-?[0-9.,]+'}
  - {name: flexible-extract, pattern: '-?[$0-9.,]{2,}|-?[0-9]+', last: true}
regexes_to_ignore: [',', '\$', '(?s).*#### ', '\.$']
ignore_case: true
metrics: [exact_match]
)";

// Of a language: its code, "Question:" and "Answer:" in it.
std::string mgsm(const char* language, const char* question, const char* answer) {
  return fmt::format(R"(
name: mgsm_{0}
version: 4
output_type: generate_until
file: mgsm_{0}.tsv
columns: [question, answer_number]
doc_to_text: "{1} {{{{question}}}}\n{2}"
doc_to_target: "{{{{answer_number}}}}"
target_delimiter: ""
until: ["{1}", </s>, <|im_end|>]
filters:
  - {{name: remove_whitespace}}
  - {{name: flexible-extract, pattern: '-?[$0-9.,]{{2,}}|-?[0-9]+', last: true}}
ignore_case: true
ignore_punctuation: true
metrics: [exact_match]
)",
                     language, question, answer);
}

}  // namespace

const std::vector<BuiltInTask>& built_in_tasks() {
  static const std::vector<BuiltInTask> tasks = {
      {"text", kText},
      {"piqa", kPiqa},
      {"blimp", kBlimp},
      {"lambada", kLambada},
      {"mmlu", kMmlu},
      {"esbbq", kEsBbq},
      {"cabbq", kCaBbq},
      {"gsm8k", kGsm8k},
      {"mgsm_en", mgsm("en", "Question:", "Answer:")},
      {"mgsm_es", mgsm("es", "Pregunta:", "Respuesta:")},
      {"mgsm_de", mgsm("de", "Frage:", "Antwort:")},
      {"mgsm_fr", mgsm("fr", "Question :", "Réponse :")},
  };
  return tasks;
}

}  // namespace forja

// SPDX-License-Identifier: Apache-2.0
// The subcommands of the binary. Each add_* registers one; its callback does the work and throws
// Error on failure.
#pragma once

namespace CLI {
class App;
}

namespace forja {

void add_train_command(CLI::App& app);
void add_generate_command(CLI::App& app);
void add_chat_command(CLI::App& app);
void add_eval_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_tokenizer_command(CLI::App& app);
void add_plan_command(CLI::App& app);
void add_convert_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_report_command(CLI::App& app);
void add_doctor_command(CLI::App& app);

}  // namespace forja

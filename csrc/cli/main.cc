// SPDX-License-Identifier: Apache-2.0
// The binary: finds the subcommand, turns an Error into a message and an exit code.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>

#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/base/version.h"
#include "forja/cli/commands.h"

int main(int argc, char** argv) {
  CLI::App app(
      "Forja: trains large language models from one YAML file, under mpirun, srun or alone.",
      "forja");
  app.set_version_flag("--version",
                       fmt::format("forja {} ({})", forja::kVersion, forja::kGitRevision));
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::help);
  forja::add_train_command(app);
  forja::add_generate_command(app);
  forja::add_chat_command(app);
  forja::add_tokenize_command(app);
  forja::add_tokenizer_command(app);
  forja::add_inspect_command(app);
  forja::add_report_command(app);
  forja::add_doctor_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    std::fprintf(stderr, "error: %s\nRun with --help for usage.\n", e.what());
    return int(forja::ExitCode::bad_input);
  } catch (const forja::Error& e) {
    forja::log_error("{}", e.what());
    return int(e.code());
  } catch (const std::bad_alloc&) {
    forja::log_error("out of memory");
    return int(forja::ExitCode::failed);
  } catch (const std::exception& e) {
    forja::log_error("{}", e.what());
    return int(forja::ExitCode::failed);
  }
  return int(forja::ExitCode::ok);
}

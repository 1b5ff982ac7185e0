// SPDX-License-Identifier: Apache-2.0
// The binary: finds the subcommand, turns an Error into a message and an exit code.
#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "forja/base/error.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/base/version.h"
#include "forja/cli/commands.h"

namespace {

// `word` is none of `names`; the nearest of them, or all.
std::string unknown(const char* kind, const std::string& word,
                    const std::vector<std::string>& names) {
  const std::string near = forja::nearest_name(word, names);
  return fmt::format(
      "unknown {} {}; {}", kind, word,
      near.empty() ? "known: " + forja::join(names, ", ") : fmt::format("did you mean {}?", near));
}

// What is wrong with the arguments: the first command or option that does not exist, else what the
// parser says.
std::string explain(const CLI::App& app, const CLI::ParseError& error, int argc, char** argv) {
  const CLI::App* at = &app;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i], option = word.substr(0, word.find('='));
    std::vector<std::string> commands, options;
    const CLI::App* next = nullptr;
    for (const CLI::App* command : at->get_subcommands(nullptr)) {
      commands.push_back(command->get_name());
      if (command->get_name() == word) next = command;
    }
    for (const CLI::Option* o : at->get_options()) {
      for (const std::string& name : o->get_lnames()) options.push_back("--" + name);
    }
    if (next) {
      at = next;
    } else if (!word.starts_with('-')) {
      if (!commands.empty()) return unknown("command", word, commands);
    } else if (word.starts_with("--") && word != "--" && !at->get_option_no_throw(option)) {
      return unknown("option", option, options);
    }
  }
  return error.what();
}

// Wrong arguments are seen before MPI starts, by every rank of a launch: the first one tells, and
// the others give it time to, because a launcher ends all of them after the first that ends.
bool speaks() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    const char* rank = std::getenv(name);
    if (!rank || std::strtol(rank, nullptr, 10) == 0) continue;
    std::this_thread::sleep_for(std::chrono::seconds(1));
    return false;
  }
  return true;
}

}  // namespace

int main(int argc, char** argv) {
  // A file above the limit of its size is an error of its writing, not the end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
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
  forja::add_eval_command(app);
  forja::add_tokenize_command(app);
  forja::add_tokenizer_command(app);
  forja::add_plan_command(app);
  forja::add_convert_command(app);
  forja::add_inspect_command(app);
  forja::add_report_command(app);
  forja::add_doctor_command(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);
    if (speaks()) {
      std::fprintf(stderr, "error: %s\nRun with --help for usage.\n",
                   explain(app, e, argc, argv).c_str());
    }
    return int(forja::ExitCode::bad_input);
  } catch (const forja::Error& e) {
    if (*e.what()) forja::log_error("{}", e.what());  // else another rank tells
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

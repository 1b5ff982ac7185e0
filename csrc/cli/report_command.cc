// SPDX-License-Identifier: Apache-2.0
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "csrc/cli/checks.h"
#include "forja/base/file.h"
#include "forja/base/log.h"
#include "forja/base/text.h"
#include "forja/cli/commands.h"
#include "forja/report/run_report.h"

namespace forja {

void add_report_command(CLI::App& app) {
  struct Options {
    std::string run_dir, html;
  };
  CLI::App* command =
      app.add_subcommand("report", "Write the HTML report of a run: one file, opens offline.");
  const auto options = std::make_shared<Options>();
  command->add_option("RUN_DIR", options->run_dir, "Directory of a run of forja train")->required();
  command->add_option("--html", options->html, "File to write; RUN_DIR/report.html unless given");
  command->callback([options] {
    const std::string file =
        options->html.empty() ? options->run_dir + "/report.html" : options->html;
    const std::string page = render_run_report(options->run_dir);
    check_output_file(file);
    write_file(file, page);
    log_info("wrote {} ({})", file, format_bytes(double(page.size())));
  });
}

}  // namespace forja

// SPDX-License-Identifier: Apache-2.0
#include "csrc/report/page.h"

namespace forja {

std::string_view page_skeleton() {
  return R"html(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{{title}} - training report</title>
<style>
{{style}}</style>
</head>
<body>
<main>
<header>
<p class="kind">Training report</p>
<h1>{{title}}</h1>
<button id="theme" type="button" hidden>dark</button>
{{facts}}</header>
{{tiles}}{{warnings}}<div class="charts">
{{charts}}{{ranks}}{{environment}}</div>
{{config}}<footer>Written by forja report. Step axes are shared: point at one chart to read all of them.</footer>
</main>
<script type="application/json" id="data">{{data}}</script>
<script>
{{script}}</script>
</body>
</html>
)html";
}

}  // namespace forja

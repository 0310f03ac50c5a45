#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What bash, zsh and fish offer with our scripts, on a store with an image and layers."""

import os
import shlex
import subprocess

import support
from support import image


class Completion(support.Case):
    def setUp(self):
        super().setUp()
        self.mkfs()
        self.lcfs("import", "-q", image("docker.tar"))
        self.image = self.lines("image", "ls", "--json")[0]["images"][0]["names"][0]
        self.lcfs("layer", "create", "web-one")
        self.lcfs("layer", "create", "web-two")
        os.mkdir(self.path("bin"))
        os.symlink(support.LCFS, self.path("bin/lcfs"))

    def offered(self, *command):
        env = dict(self.environment(), PATH=self.path("bin") + ":" + os.environ["PATH"], HOME=self.dir)
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=support.LONG, check=True)
        return {line.split("\t")[0] for line in done.stdout.decode().splitlines()}

    def check(self, ask):
        self.assertEqual(ask("lcfs layer rm web-"), {"web-one", "web-two"})
        self.assertIn(self.image, {self.image[:-len(word)] + word if self.image.endswith(word) else word for word in ask("lcfs ls " + self.image[:3])})
        self.assertEqual(ask("lcfs layer ren"), {"rename"})

    def test_bash(self):
        self.check(lambda line: self.offered(
            "bash", "--norc", "-c", f"source <(lcfs completion bash); COMP_LINE={shlex.quote(line)}; COMP_POINT=${{#COMP_LINE}}; "
            'complete -p lcfs | grep -q "_lcfs" && _lcfs; printf "%s\\n" "${COMPREPLY[@]}"'))

    def test_zsh(self):
        support.need("zsh")
        # What the completion system would be given.
        self.check(lambda line: self.offered(
            "zsh", "-f", "-c", "compdef() { asked=$1 }; compadd() { shift; print -rl -- \"$@\" }; _files() { }; "
            f"source =(lcfs completion zsh); words=(${{(s: :)${{:-{shlex.quote(line)}}}}}); CURRENT=$#words; $asked"))

    def test_fish(self):
        support.need("fish")
        self.check(lambda line: self.offered("fish", "--no-config", "-c", f"lcfs completion fish | source; complete -C {shlex.quote(line)}"))


if __name__ == "__main__":
    support.main()

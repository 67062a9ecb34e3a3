package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/cobra"
)

// benchProgram generates load. It is a program of its own: it opens thousands of raw connections and keeps time.
const benchProgram = "kiteq-bench"

func newBench(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "bench [-- FLAG...]",
		Short: "Load a broker and measure it, by kiteq-bench",
		Long: `Run kiteq-bench, which lies beside kiteqctl or in the PATH, with the flags behind --: what is measured and how is
told by kiteqctl bench -- -help. --broker and --zkhost are handed on. Never give it a broker that others need.`,
		Example: `  kiteqctl bench --broker 127.0.0.1:13800 -- -n 10000 -topic bench
  kiteqctl bench --broker 127.0.0.1:13800 -- -rate 1000 -d 10s -json -`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return fmt.Errorf("%q: flags of %s come behind --", args[0], benchProgram)
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			program, err := g.program(benchProgram)
			if err != nil {
				return err
			}
			if g.broker != "" {
				args = append([]string{"-broker", g.broker}, args...)
			}
			if g.zkhostGiven {
				args = append([]string{"-zkhost", g.zkhost}, args...)
			}
			run := exec.CommandContext(cmd.Context(), program, args...)
			run.Stdin, run.Stdout, run.Stderr = g.in, g.out, g.err
			if err := run.Run(); err != nil {
				return fmt.Errorf("%s: %w", benchProgram, err)
			}
			return nil
		}),
	}
}

// beside finds a program in the directory of this one, or in the PATH.
func beside(name string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		if path := filepath.Join(filepath.Dir(self), name); isProgram(path) {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrNotFound) {
		err = fmt.Errorf("%s is neither beside kiteqctl nor in the PATH: ./build.sh build makes it, and the package kiteq has it", name)
	}
	return path, err
}

func isProgram(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

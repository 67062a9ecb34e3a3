package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// What the process returns.
const (
	exitOK    = 0
	exitWrong = 1 // messages were lost, or came that nobody published
	exitError = 2 // the run could not be made as asked
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program; tests call it.
func run(ctx context.Context, args []string, out, problems io.Writer) int {
	o, err := parseOptions(args, problems)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintln(problems, "kiteq-bench:", err)
		return exitError
	}
	b := newBench(o)
	stop := watch(b, problems)
	result, err := b.run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(problems, "kiteq-bench:", err)
		return exitError
	}
	fmt.Fprintln(out, result)
	if err := writeJSON(o.json, result, out); err != nil {
		fmt.Fprintln(problems, "kiteq-bench:", err)
		return exitError
	}
	return result.code()
}

// writeJSON writes the result to the file; "-" is standard output, "" nowhere.
func writeJSON(path string, r *result, out io.Writer) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	text = append(text, '\n')
	if path == "-" {
		_, err = out.Write(text)
		return err
	}
	return os.WriteFile(path, text, 0o644)
}

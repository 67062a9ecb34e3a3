package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
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
	code, err := do(ctx, o, out, problems)
	if err != nil {
		fmt.Fprintln(problems, "kiteq-bench:", err)
		return exitError
	}
	return code
}

// do makes the run that was asked for.
func do(ctx context.Context, o options, out, problems io.Writer) (code int, err error) {
	switch o.mode {
	case modeFloor:
		if err := os.MkdirAll(o.dir, 0o755); err != nil {
			return exitError, err
		}
		return exitOK, serveFloor(ctx, o.broker, o.dir, o.class, func(addr net.Addr) {
			fmt.Fprintf(out, "%s%v\n", listeningOn, addr)
		})
	case modeCompare:
		c := comparison{o: o, contenders: []contender{{"floor", startFloor}, {"kiteq", startKiteQ}}}
		if err := c.run(ctx, shapes); err != nil {
			return exitError, err
		}
		fmt.Fprint(out, &c)
		return exitOK, writeJSON(o.json, c.samples, out)
	}
	b := newBench(o)
	stop := watch(b, problems)
	result, err := b.run(ctx)
	stop()
	if err != nil {
		return exitError, err
	}
	fmt.Fprintln(out, result)
	return result.code(), writeJSON(o.json, result, out)
}

// writeJSON writes what was measured to the file; "-" is standard output, "" nowhere.
func writeJSON(path string, r any, out io.Writer) error {
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

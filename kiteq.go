// Command kiteq is a message broker whose messages agree with the publisher's own database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/kiteq/kiteq/conf"
	"github.com/kiteq/kiteq/server"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintln(os.Stderr, "kiteq: "+line)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	config, err := conf.Load(args, os.Stdout)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	broker, err := server.New(config, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	return broker.Run(ctx)
}

// Command kiteq is a message broker whose messages agree with the publisher's own database.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
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
	dumps := make(chan os.Signal, 1)
	signal.Notify(dumps, syscall.SIGUSR1)
	defer signal.Stop(dumps)
	log, err := conf.OpenLog(config, os.Stderr)
	if err != nil {
		return err
	}
	err = server.Serve(ctx, config, server.Control{
		Reload:   func() (conf.Config, error) { return conf.Load(args, io.Discard) },
		DumpHeap: dumps,
		Level:    log.Level,
	}, log.Logger())
	return errors.Join(err, log.Close())
}

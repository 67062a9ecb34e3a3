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
	"time"

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
	if config.Check {
		for _, note := range config.Notes {
			fmt.Println("note: " + note)
		}
		fmt.Println("the configuration is good")
		return nil
	}
	config.Limits.CollectBelow()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	dumps := make(chan os.Signal, 1)
	signal.Notify(dumps, syscall.SIGUSR1)
	defer signal.Stop(dumps)
	changed, stopped := changes(ctx, config.Path)
	defer stopped()
	log, err := conf.OpenLog(config, os.Stderr)
	if err != nil {
		return err
	}
	err = server.Serve(ctx, config, server.Control{
		Reload:   func() (conf.Config, error) { return conf.Load(args, io.Discard) },
		Changed:  changed,
		DumpHeap: dumps,
		Level:    log.Level,
	}, log.Logger())
	return errors.Join(err, log.Close())
}

// watchEvery is how often the configuration file is looked at.
const watchEvery = 5 * time.Second

// changes tells of SIGHUP, and of a file with another content, until stopped.
func changes(ctx context.Context, path string) (changed <-chan string, stopped func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangups, why := make(chan os.Signal, 1), make(chan string, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	tell := func(text string) {
		select {
		case why <- text:
		default: // one is as good as two
		}
	}
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				tell("SIGHUP")
			}
		}
	}()
	if path != "" {
		go conf.Watch(ctx, path, watchEvery, func() { tell(path + " has changed") })
	}
	return why, func() { signal.Stop(hangups); cancel() }
}

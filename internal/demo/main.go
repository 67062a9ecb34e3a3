// Command demo plays a membership purchase on a real broker: payments that commit, one that is declined,
// and three whose producer dies undecided; those at the desk are in SQLite, with a barrier. The broker explains
// what became of some of them. It ends by checking who was told what.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

// patience is how long the whole play may take; it takes some ten seconds.
const patience = 2 * time.Minute

func main() {
	kiteq := flag.String("kiteq", "./kiteq", "`path` of the broker")
	keep := flag.Bool("keep", false, "keep the broker's data and log")
	var doomed doomed
	doomed.flags(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var err error
	if doomed.zkhost != "" {
		err = doomed.run(ctx)
	} else {
		err = demo(ctx, *kiteq, *keep)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo starts a broker in a directory of its own, plays, and stops the broker.
func demo(ctx context.Context, kiteq string, keep bool) (err error) {
	dir, err := os.MkdirTemp("", "kiteq-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if keep {
			fmt.Println("the broker's data and log are in", dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	ledger := ledger{dir: filepath.Join(dir, "ledger")}
	if err := os.Mkdir(ledger.dir, 0o700); err != nil {
		return err
	}
	broker, err := startBroker(kiteq, dir)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		<-broker.exited
		cancel(errors.New("the broker ended"))
	}()
	play := newPlay(broker, ledger, filepath.Join(dir, "desk.db"))
	played := play.run(ctx)
	play.close(context.WithoutCancel(ctx))
	stopped := broker.stop()
	if err := errors.Join(played, stopped); err != nil {
		return fmt.Errorf("%w\nthe broker's log ends with:\n%s", err, broker.logTail())
	}
	return play.verdict()
}

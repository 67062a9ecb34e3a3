package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"github.com/kiteq/kiteq/client"
)

// doomed is a till in a process of its own that is killed in the middle of a payment: after it wrote the
// row or before, but in any case before it told the broker its verdict.
type doomed struct {
	zkhost string
	ledger string
	id     string
	what   string
	pays   bool
	desk   string
}

// flags are how the play tells the process what it is to do.
func (d *doomed) flags(set *flag.FlagSet) {
	set.StringVar(&d.zkhost, "doomed", "", "used by the demo itself: be a till that dies, with this registry")
	set.StringVar(&d.ledger, "doomed-ledger", "", "")
	set.StringVar(&d.id, "doomed-id", "", "")
	set.StringVar(&d.what, "doomed-what", "", "")
	set.BoolVar(&d.pays, "doomed-pays", false, "")
	set.StringVar(&d.desk, "doomed-desk", "", "")
}

// start runs the process and returns when it is dead.
func (d *doomed) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, "-doomed="+d.zkhost, "-doomed-ledger="+d.ledger, "-doomed-id="+d.id,
		"-doomed-what="+d.what, "-doomed-pays="+strconv.FormatBool(d.pays), "-doomed-desk="+d.desk)
	out, err := cmd.CombinedOutput()
	if len(out) > 0 || cmd.ProcessState == nil || cmd.ProcessState.Exited() {
		return fmt.Errorf("the till that should be killed was not: %w: %s", err, out)
	}
	return nil
}

// run is the process. It does not return unless something is wrong.
func (d *doomed) run(ctx context.Context) error {
	if d.desk != "" {
		return d.dieAtDesk(ctx)
	}
	c, err := client.Dial(ctx, client.Options{ZKHost: d.zkhost, Group: tillGroup, Topics: []string{topic}})
	if err != nil {
		return err
	}
	_, err = c.Prepare(ctx, &client.Message{ID: d.id, Topic: topic, Type: vipPaid, Body: []byte(d.what), Text: true})
	if err != nil {
		return err
	}
	if d.pays {
		if err := (ledger{d.ledger}).insert(d.id, d.what); err != nil {
			return err
		}
	}
	return die(ctx)
}

// die kills this process.
func die(ctx context.Context) error {
	me, err := os.FindProcess(os.Getpid())
	if err != nil {
		return err
	}
	if err := me.Kill(); err != nil {
		return err
	}
	<-ctx.Done() // the signal is on its way
	return ctx.Err()
}

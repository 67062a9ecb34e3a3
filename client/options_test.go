package client_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kiteq/kiteq/client"
)

func TestOptionsDefaults(t *testing.T) {
	t.Parallel()
	o := client.Options{ZKHost: "127.0.0.1:2181", Group: "g"}.WithDefaults()
	if err := o.Validate(); err != nil {
		t.Fatalf("the defaults are not valid: %v", err)
	}
	if o.AckTimeout != 3*time.Second || o.HeartbeatEvery != 10*time.Second || o.Concurrency != 32 || o.MaxPending != 1024 {
		t.Errorf("defaults %+v", o)
	}
}

func TestOptionsNameEveryProblem(t *testing.T) {
	t.Parallel()
	o := client.Options{
		Group: "a/b", Topics: []string{"x y"}, Brokers: []string{"here"}, WarmingUp: 2 * time.Hour, AckTimeout: time.Millisecond,
		HeartbeatEvery: time.Hour, ConnectTimeout: -1, DrainTimeout: -1, CheckTimeout: time.Hour, MaxPending: -1, Concurrency: 5000,
		Middleware: []client.Middleware{nil},
	}
	err := o.WithDefaults().Validate()
	if !errors.Is(err, client.Invalid) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`"a/b"`, `"x y"`, `"here"`, "WarmingUp 2h", "AckTimeout 1ms", "HeartbeatEvery 1h", "ConnectTimeout -1ns", "DrainTimeout -1ns",
		"CheckTimeout 1h", "MaxPending -1", "Concurrency 5000", "Middleware 0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
}

package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPubJSON publishes what peek and sub print, with what the command line says for what a line leaves out.
func TestPubJSON(t *testing.T) {
	t.Parallel()
	b := setup(t)
	in := `{"topic":"other","seq":7,"type":"pay","id":"` + someID + `","body":"order 17","properties":{"k":"line","l":"x"},"broker":"b"}
{"bodyBase64":"/wA="}
`
	b.run(in, "pub", "trade", "refund", "--json", "--prop", "k=flag").mustOK(t)
	for _, want := range []string{"trade pay " + someID + " \"order 17\" map[k:flag l:x]", "trade refund  \"\\xff\\x00\" map[k:flag]"} {
		p, err := b.broker.Published.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		id := p.ID
		if id != someID {
			id = ""
		}
		if got := fmt.Sprintf("%s %s %s %q %v", p.Topic, p.Type, id, p.Body, p.Properties); got != want {
			t.Errorf("published %s, want %s", got, want)
		}
	}
	for in, text := range map[string]string{
		`{"body":"x"}` + "\n": "line 1: it has no type",
		`order 17` + "\n":     "line 1: ",
		`{"type":"a","body":"x","bodyBase64":""}` + "\n": "one of them only",
	} {
		if got := b.run(in, "pub", "trade", "--json"); got.code != exitUsage || !strings.Contains(got.err, text) {
			t.Errorf("%s: %+v, want %q", in, got, text)
		}
	}
}

// TestQuiet tells the number only, on both sides.
func TestQuiet(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub := b.start(t.Context(), "", "sub", "trade", "pay", "-n", "3", "--quiet", "-o", "json", "--rate", "1000")
	if _, err := b.broker.Connects.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := b.run("", "pub", "trade", "pay", "x", "-n", "3", "-q", "--rate", "1000").mustOK(t)
	if !regexp.MustCompile(`^published 3 messages in \S+, \d+ a second\n$`).MatchString(got.out) {
		t.Errorf("printed %q", got.out)
	}
	if got := sub.wait().mustOK(t); !strings.HasPrefix(got.out, `{"event":"delivered","count":3,`) || strings.Count(got.out, "\n") != 1 {
		t.Errorf("printed %q", got.out)
	}
}

// TestPace keeps the rate, and does not make up for a long pause.
func TestPace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p, err := newPace(50)
		if err != nil {
			t.Fatal(err)
		}
		took := func(n int) time.Duration {
			began := time.Now()
			for range n {
				if err := p.wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return time.Since(began)
		}
		if d := took(51); d != time.Second {
			t.Errorf("51 at 50 a second took %s", d)
		}
		wait(t.Context(), time.Minute)
		if d := took(51); d < 900*time.Millisecond {
			t.Errorf("51 at 50 a second after a pause took %s", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.wait(ctx) == nil {
			t.Error("goes on after its end")
		}
	})
	for _, rate := range []float64{-1, 2e6} {
		if _, err := newPace(rate); err == nil {
			t.Errorf("--rate %g is taken", rate)
		}
	}
}

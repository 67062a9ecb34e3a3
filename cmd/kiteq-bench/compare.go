package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// shape is one load of mode compare: publishes only, in a closed loop.
type shape struct {
	name          string
	conns, window int
}

// shapes go from one publish at a time to the most that fits the broker's buffers.
var shapes = []shape{
	{"1 at a time", 1, 1},
	{"128 on 4 connections", 4, 32},
	{"window 1000, 1 connection", 1, 1000},
	{"window 1000, 4 connections", 4, 1000},
}

// warmUp is how many messages each instance gets before those that are measured.
const warmUp = 2000

// contender is one side of the comparison.
type contender struct {
	name  string
	start func(ctx context.Context, o options) (*instance, error)
}

// instance is a contender at work, new and empty.
type instance struct {
	addr string
	pid  int
	stop func() error
}

// sample is one run of the comparison.
type sample struct {
	Contender string  `json:"contender"`
	Shape     string  `json:"shape"`
	Round     int     `json:"round"`
	Result    *result `json:"result"`
}

// comparison is every run, of a baseline (the first contender) and others in turns. What disturbs the
// machine for a while so falls on all of them.
type comparison struct {
	o          options
	contenders []contender
	samples    []sample
}

// run makes all runs. Each gets an instance of its own with empty directories.
func (c *comparison) run(ctx context.Context, shapes []shape) error {
	for _, s := range shapes {
		for round := range c.o.rounds {
			for _, side := range c.contenders {
				r, err := c.once(ctx, side, s)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", side.name, s.name, err)
				}
				c.samples = append(c.samples, sample{side.name, s.name, round + 1, r})
			}
		}
	}
	return nil
}

func (c *comparison) once(ctx context.Context, side contender, s shape) (_ *result, err error) {
	o := c.o
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return nil, err
	}
	if o.dir, err = os.MkdirTemp(o.dir, "compare-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(o.dir)
	i, err := side.start(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	defer func() { err = cmp.Or(err, i.stop()) }()
	o.mode, o.via, o.broker, o.pid = modePublish, viaWire, i.addr, i.pid
	o.conns, o.window = s.conns, s.window
	warm := o
	warm.n, warm.d, warm.pid = warmUp, 3*time.Second, 0
	if _, err := newBench(warm).run(ctx); err != nil {
		return nil, fmt.Errorf("warm up: %w", err)
	}
	r, err := newBench(o).run(ctx)
	switch {
	case err != nil:
		return nil, err
	case r.Class != o.class:
		return nil, fmt.Errorf("it answers in class %q, not %q", r.Class, o.class)
	case r.Refused+r.Unanswered > 0:
		return nil, fmt.Errorf("%d refused, %d unanswered (%s)", r.Refused, r.Unanswered, r.reasons())
	}
	return r, nil
}

// median returns the middle of what value says about one contender's runs of a shape, 0 for none.
func (c *comparison) median(side, shape string, value func(*result) float64) float64 {
	var all []float64
	for _, s := range c.samples {
		if s.Contender == side && s.Shape == shape {
			all = append(all, value(s.Result))
		}
	}
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// column is one figure of the table.
type column struct {
	name   string
	format string
	value  func(*result) float64
}

// columns follow the rate and the share of the baseline.
var columns = []column{
	{"p50 ms", "%.2f", func(r *result) float64 { return float64(r.Publish.Latency.P50) / 1e3 }},
	{"p99 ms", "%.2f", func(r *result) float64 { return float64(r.Publish.Latency.P99) / 1e3 }},
	{"CPU us/message", "%.2f", func(r *result) float64 { return r.Broker.CPUPerMessage }},
	{"written/received", "%.2f", func(r *result) float64 { return r.Broker.WrittenPerByte }},
	{"RssAnon MiB", "%.0f", func(r *result) float64 { return float64(r.Broker.AnonPeak) / (1 << 20) }},
}

func perSecond(r *result) float64 { return r.Publish.PerSecond }

// String is the table of medians in Markdown, with what it was measured on.
func (c *comparison) String() string {
	var s strings.Builder
	if len(c.samples) == 0 {
		return ""
	}
	r, base := c.samples[0].Result, c.contenders[0].name
	fmt.Fprintf(&s, "### %s, commit %s, class %s\n\n", r.Started.UTC().Format("2006-01-02 15:04"), cmp.Or(r.Commit, "unknown"), r.Class)
	fmt.Fprintf(&s, "%s: %d CPUs, %s/%s, %s. Publishes of %d B, %v a run, medians of %d rounds, in turns. Of the %s: the share of its rate.\n\n",
		r.Machine.Name, r.Machine.CPUs, r.Machine.OS, r.Machine.Arch, r.Machine.Go, c.o.size, c.o.d, c.o.rounds, base)
	s.WriteString("| load | broker | messages/s |")
	for _, col := range columns {
		s.WriteString(" " + col.name + " |")
	}
	fmt.Fprintf(&s, " of the %s |\n|---|---|%s\n", base, strings.Repeat("---|", len(columns)+2))
	var names []string
	for _, one := range c.samples {
		if !slices.Contains(names, one.Shape) {
			names = append(names, one.Shape)
		}
	}
	for _, name := range names {
		for _, side := range c.contenders {
			rate := c.median(side.name, name, perSecond)
			fmt.Fprintf(&s, "| %s | %s | %.0f |", name, side.name, rate)
			for _, col := range columns {
				fmt.Fprintf(&s, " "+col.format+" |", c.median(side.name, name, col.value))
			}
			fmt.Fprintf(&s, " %.0f %% |\n", 100*rate/c.median(base, name, perSecond))
		}
	}
	return s.String()
}

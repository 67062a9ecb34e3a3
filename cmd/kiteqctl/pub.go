package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"maps"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/client"
)

// messageFlags are those that say what a message carries besides its body.
type messageFlags struct {
	id         string
	properties map[string]string
	expires    time.Duration
	limit      int
	text       bool
}

func (f *messageFlags) register(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.id, "id", "", "message `ID`, 32 hexadecimal digits (default a random one)")
	cmd.Flags().StringToStringVar(&f.properties, "prop", nil, "property `KEY=VALUE`; may be repeated")
	cmd.Flags().DurationVar(&f.expires, "expires", 0, "when the message is not worth delivering any more (default 168h)")
	cmd.Flags().IntVar(&f.limit, "deliver-limit", 0, "attempts that each group gets, 1 to 100 (default 100)")
	cmd.Flags().BoolVar(&f.text, "text", false, "publish as a string, for clients that tell strings from bytes")
}

func (f *messageFlags) message(topic, messageType string, body []byte) *client.Message {
	m := &client.Message{
		ID: f.id, Topic: topic, Type: messageType, Body: body, Text: f.text, Properties: f.properties, DeliverLimit: f.limit,
	}
	if f.expires != 0 {
		m.Expires = time.Now().Add(f.expires)
	}
	return m
}

func newPub(g *globals) *cobra.Command {
	var flags messageFlags
	var count int
	var rate float64
	var fly, asJSON, quiet bool
	cmd := &cobra.Command{
		Use:   "pub TOPIC TYPE [BODY]",
		Short: "Publish messages and print their ids",
		Long: `Publish BODY, or without BODY one message for each line of the standard input.

With --json each line is an object such as sub -o json and peek -o json print:
  {"type":"pay-succ","body":"order 17","id":"...","properties":{"trace":"4711"}}
bodyBase64 may stand for body. What a line leaves out is as the command line says, and TYPE may be left out there;
what else it has, such as topic, group and broker, is passed over.

Each id is printed when a broker has confirmed that it stored the message. A publish whose answer is lost is repeated
under the same id. With --quiet only the number is told, at the end. A progress bar is shown on a terminal that does
not show the ids.`,
		Example: `  kiteqctl pub trade pay-succ 'order 17'
  kiteqctl pub trade pay-succ 'load' -n 100000 --rate 500 --quiet
  tail -f orders.log | kiteqctl pub trade order
  kiteqctl peek trade -n 100 -o json | kiteqctl pub trade-copy --json
  kiteqctl pub trade pay-succ '{"order":17}' --prop trace=4711 -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			if asJSON {
				return names(1, "TOPIC", "TYPE")(cmd, args)
			}
			return names(1, "TOPIC", "TYPE", "BODY")(cmd, args)
		},
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("count") && count < 1 {
				return usage("--count %d: give 1 or more", count)
			}
			pace, err := newPace(rate)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			bodies, total := lines(g.in, count), int64(-1)
			if len(args) == 3 {
				bodies, total = repeat([]byte(args[2]), max(count, 1)), int64(max(count, 1))
			} else if count > 0 {
				total = int64(count)
			}
			messages := flags.messages(append(args, "")[:2], paced(ctx, pace, bodies), asJSON)
			p := publisher{globals: g, fly: fly, quiet: quiet, meter: g.meter(total, "messages", !quiet)}
			return p.publish(ctx, args[0], messages)
		}),
	}
	flags.register(cmd)
	cmd.Flags().IntVarP(&count, "count", "n", 0, "publish BODY `N` times, or at most N lines (default once, or every line)")
	cmd.Flags().Float64Var(&rate, "rate", 0, "at most `N` messages a second (default: no limit)")
	cmd.Flags().BoolVar(&fly, "fly", false, "do not store: fast, and lost when nobody takes it")
	cmd.Flags().BoolVar(&asJSON, "json", false, "lines of the standard input are JSON objects")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "print no ids, only how many there were")
	return cmd
}

// line is a message of --json.
type line struct {
	ID         string            `json:"id"`
	Type       string            `json:"type"`
	Body       *string           `json:"body"`
	BodyBase64 []byte            `json:"bodyBase64"`
	Properties map[string]string `json:"properties"`
}

// messages makes messages of the bodies; where is their topic and type.
func (f *messageFlags) messages(where []string, bodies iter.Seq2[[]byte, error], asJSON bool) iter.Seq2[*client.Message, error] {
	return func(yield func(*client.Message, error) bool) {
		n := 0
		for body, err := range bodies {
			m := f.message(where[0], where[1], body)
			if n++; asJSON && err == nil {
				err = readLine(m, body, n)
			}
			if !yield(m, err) {
				return
			}
		}
	}
}

// readLine makes m what the n-th line says.
func readLine(m *client.Message, text []byte, n int) error {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return usage("line %d: %w: give a JSON object such as {\"type\":\"pay\",\"body\":\"order 17\"}", n, err)
	}
	switch {
	case l.Body != nil && l.BodyBase64 != nil:
		return usage("line %d: give body or bodyBase64, and one of them only", n)
	case l.Body != nil:
		m.Body = []byte(*l.Body)
	default:
		m.Body = l.BodyBase64
	}
	m.ID, m.Type = cmp.Or(l.ID, m.ID), cmp.Or(l.Type, m.Type)
	if len(l.Properties) > 0 {
		all := maps.Clone(l.Properties)
		maps.Copy(all, m.Properties) // the command line wins
		m.Properties = all
	}
	if m.Type == "" {
		return usage("line %d: it has no type: give TYPE on the command line", n)
	}
	return nil
}

// publisher keeps publishes under way and says what became of them.
type publisher struct {
	*globals
	fly, quiet bool
	meter      meter
	done       int64
}

// window is how many publishes are under way at a time.
const window = 256

// publish sends the messages, keeps up to window of them under way, and prints the ids in their order.
func (p *publisher) publish(ctx context.Context, topic string, messages iter.Seq2[*client.Message, error]) (err error) {
	c, closeAll, err := p.dial(ctx, publisherGroup, func(o *client.Options) { o.Topics = []string{topic} })
	if err != nil {
		return err
	}
	began := time.Now()
	defer func() {
		p.meter.end()
		err = firstError(err, closeAll())
		if p.quiet {
			err = firstError(err, p.tellCount("published", p.done, time.Since(began)))
		}
	}()
	var pending []*client.Pending
	confirm := func() error {
		first := pending[0]
		pending = pending[1:]
		return p.confirm(ctx, topic, first)
	}
	for m, err := range messages {
		if err != nil {
			return err
		}
		m.Fly = p.fly
		bounded, cancel := context.WithTimeout(ctx, p.timeout)
		pending = append(pending, c.PublishAsync(bounded, m))
		cancel()
		for len(pending) >= window || len(pending) > 0 && settled(pending[0]) {
			if err := confirm(); err != nil {
				return err
			}
		}
	}
	for len(pending) > 0 {
		if err := confirm(); err != nil {
			return err
		}
	}
	return nil
}

// confirm waits for the answer.
func (p *publisher) confirm(ctx context.Context, topic string, sent *client.Pending) error {
	bounded, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	if err := sent.Wait(bounded); err != nil {
		return err
	}
	p.done++
	p.meter.add(1)
	if p.quiet {
		return nil
	}
	return p.print(event{Event: "published", ID: sent.ID(), Topic: topic}, sent.ID())
}

func settled(p *client.Pending) bool {
	select {
	case <-p.Done():
		return true
	default:
		return false
	}
}

func repeat(body []byte, n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for range n {
			if !yield(body, nil) {
				return
			}
		}
	}
}

// lines gives the lines of r, at most n of them if n is above 0.
func lines(r io.Reader, n int) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, client.MaxMessage)
		for i := 0; (n <= 0 || i < n) && scanner.Scan(); i++ {
			if !yield(append([]byte(nil), scanner.Bytes()...), nil) {
				return
			}
		}
		if err := scanner.Err(); err != nil {
			yield(nil, fmt.Errorf("read the standard input: %w", err))
		}
	}
}

// firstError returns the first that is not nil.
func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

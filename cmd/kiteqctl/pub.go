package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
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
	var fly bool
	cmd := &cobra.Command{
		Use:   "pub TOPIC TYPE [BODY]",
		Short: "Publish messages and print their ids",
		Long: `Publish BODY, or without BODY one message for each line of the standard input.

Each id is printed when a broker has confirmed that it stored the message. A publish whose answer is
lost is repeated under the same id.`,
		Example: `  kiteqctl pub trade pay-succ 'order 17'
  kiteqctl pub trade pay-succ 'load' -n 1000
  tail -f orders.log | kiteqctl pub trade order
  kiteqctl pub trade pay-succ '{"order":17}' --prop trace=4711 -o json`,
		Args: names(1, "TOPIC", "TYPE", "BODY"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("count") && count < 1 {
				return usage("--count %d: give 1 or more", count)
			}
			bodies := lines(g.in, count)
			if len(args) == 3 {
				bodies = repeat([]byte(args[2]), max(count, 1))
			}
			return publish(cmd.Context(), g, args[0], bodies, func(body []byte) *client.Message {
				m := flags.message(args[0], args[1], body)
				m.Fly = fly
				return m
			})
		}),
	}
	flags.register(cmd)
	cmd.Flags().IntVarP(&count, "count", "n", 0, "publish BODY `N` times, or at most N lines (default once, or every line)")
	cmd.Flags().BoolVar(&fly, "fly", false, "do not store: fast, and lost when nobody takes it")
	return cmd
}

// window is how many publishes are under way at a time.
const window = 256

// publish sends the bodies, keeps up to window of them under way, and prints the ids in their order.
func publish(ctx context.Context, g *globals, topic string, bodies iter.Seq2[[]byte, error], message func([]byte) *client.Message) (err error) {
	c, closeAll, err := g.dial(ctx, publisherGroup, func(o *client.Options) { o.Topics = []string{topic} })
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, closeAll()) }()
	var pending []*client.Pending
	confirm := func() error {
		p := pending[0]
		pending = pending[1:]
		bounded, cancel := context.WithTimeout(ctx, g.timeout)
		defer cancel()
		if err := p.Wait(bounded); err != nil {
			return err
		}
		return g.print(event{Event: "published", ID: p.ID(), Topic: topic}, p.ID())
	}
	for body, err := range bodies {
		if err != nil {
			return err
		}
		bounded, cancel := context.WithTimeout(ctx, g.timeout)
		pending = append(pending, c.PublishAsync(bounded, message(body)))
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

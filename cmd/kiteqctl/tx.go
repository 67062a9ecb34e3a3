package main

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/client"
)

func newTx(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tx",
		Short: "Prepare messages by hand; list, check, commit and roll back undecided ones",
		Long: `A prepared message is stored and delivered to nobody until it is committed. Rolled back, it is dropped.
While nothing is decided the broker asks members of the producer's group about it from time to time.`,
		Example: `  id=$(kiteqctl tx prepare trade order 'order 17')
  kiteqctl tx list
  kiteqctl tx commit $id --reason 'the row is there'

  kiteqctl tx run trade order 'order 18' --verdict commit
  kiteqctl tx run trade order 'order 19' --verdict leave --answer rollback --wait 1m`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("tx needs one of prepare, run, list, show, check, commit, rollback: see kiteqctl tx --help")
		},
	}
	cmd.AddCommand(newPrepare(g), newTxRun(g), newTxList(g), newTxShow(g), newTxCheck(g), newDecide(g, client.Commit), newDecide(g, client.Rollback))
	return cmd
}

func newPrepare(g *globals) *cobra.Command {
	var flags messageFlags
	var leave bool
	cmd := &cobra.Command{
		Use:   "prepare TOPIC TYPE [BODY]",
		Short: "Store a message undecided and print its id",
		Long: `Store BODY, or without BODY the first line of the standard input, prepared, and print its id.
Nothing is decided; tx commit and tx rollback do that.`,
		Example: `  id=$(kiteqctl tx prepare trade order 'order 17')
  kiteqctl tx rollback $id --topic trade`,
		Args: names(1, "TOPIC", "TYPE", "BODY"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			m, err := firstMessage(g, &flags, args)
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			return transact(ctx, g, m, client.Unknown, func(tx *client.Transaction) error {
				if err := g.print(event{Event: "prepared", ID: tx.ID(), Topic: m.Topic, Type: m.Type}, tx.ID()); err != nil {
					return err
				}
				if !leave {
					<-ctx.Done()
				}
				tx.Leave()
				return nil
			})
		}),
	}
	flags.register(cmd)
	cmd.Flags().BoolVar(&leave, "leave", true, "end at once; --leave=false stays and answers checks with unknown until interrupted")
	return cmd
}

func newTxRun(g *globals) *cobra.Command {
	var flags messageFlags
	var verdict, answer string
	var stay time.Duration
	cmd := &cobra.Command{
		Use:   "run TOPIC TYPE [BODY]",
		Short: "Prepare a message, send a verdict or none, and answer checks",
		Long: `Prepare BODY, or without BODY the first line of the standard input, then send --verdict, or none with leave.
With --wait stay connected for that long, answer with --answer what brokers ask, and print it.`,
		Example: `  kiteqctl tx run trade order 'order 17' --verdict commit
  kiteqctl tx run trade order 'order 18' --verdict leave --answer commit --wait 1m`,
		Args: names(1, "TOPIC", "TYPE", "BODY"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			end, ok := map[string]func(context.Context, *client.Transaction) (string, error){
				"commit": func(ctx context.Context, tx *client.Transaction) (string, error) { return "committed", tx.Commit(ctx) },
				"rollback": func(ctx context.Context, tx *client.Transaction) (string, error) {
					return "rolled back", tx.Rollback(ctx, "kiteqctl tx run")
				},
				"leave": func(_ context.Context, tx *client.Transaction) (string, error) { tx.Leave(); return "left", nil },
			}[verdict]
			if !ok {
				return usage("--verdict %q: give commit, rollback or leave", verdict)
			}
			answers, ok := map[string]client.Verdict{"commit": client.Commit, "rollback": client.Rollback, "unknown": client.Unknown}[answer]
			if !ok {
				return usage("--answer %q: give commit, rollback or unknown", answer)
			}
			m, err := firstMessage(g, &flags, args)
			if err != nil {
				return err
			}
			return transact(cmd.Context(), g, m, answers, func(tx *client.Transaction) error {
				if err := g.tell(event{Event: "prepared", ID: tx.ID(), Topic: m.Topic, Type: m.Type}); err != nil {
					return err
				}
				bounded, cancel := context.WithTimeout(cmd.Context(), g.timeout)
				defer cancel()
				what, err := end(bounded, tx)
				if err != nil {
					return err
				}
				if err := g.tell(event{Event: what, ID: tx.ID(), Topic: m.Topic, Type: m.Type}); err != nil {
					return err
				}
				wait(cmd.Context(), stay)
				return nil
			})
		}),
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&verdict, "verdict", "commit", "`WHAT` to send after preparing: commit, rollback or leave (nothing)")
	cmd.Flags().StringVar(&answer, "answer", "unknown", "`VERDICT` to answer checks with: commit, rollback or unknown")
	cmd.Flags().DurationVar(&stay, "wait", 0, "how long to stay connected afterwards")
	return cmd
}

func newDecide(g *globals, v client.Verdict) *cobra.Command {
	var topic string
	var by signature
	what := map[client.Verdict]string{client.Commit: "Deliver", client.Rollback: "Drop"}[v]
	cmd := &cobra.Command{
		Use:   v.String() + " ID",
		Short: what + " a prepared message",
		Long: `Decide the prepared message ID as an operator, at the broker that holds it: --reason is required, and the broker
notes it with the name. The first decision stands; one that contradicts it is refused with who decided, and when.

With --topic the verdict goes to every broker of the topic as a producer's, over the clients' port: for brokers
whose operators' port cannot be reached. Done then means that all of them have received it.`,
		Example: fmt.Sprintf(`  kiteqctl tx %s 0123456789abcdef0123456789abcdef --reason 'looked into the ledger'
  kiteqctl tx %[1]s 0123456789abcdef0123456789abcdef --topic trade`, v),
		Args: names(0, "ID"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if topic != "" {
				return g.decide(cmd.Context(), topic, args[0], v, cmp.Or(by.reason, "by hand"))
			}
			if by.reason == "" {
				return usage("--reason is missing: say why, it is noted with the decision")
			}
			return g.order(cmd.Context(), args[0], v, by.note())
		}),
	}
	cmd.Flags().StringVar(&topic, "topic", "", "`TOPIC` of the message, to decide as a producer does")
	by.register(cmd, g.user)
	return cmd
}

// decide sends the verdict as a producer.
func (g *globals) decide(ctx context.Context, topic, id string, v client.Verdict, reason string) error {
	c, closeAll, err := g.dial(ctx, publisherGroup, func(*client.Options) {})
	if err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	err = c.Decide(bounded, topic, id, v, reason)
	if err = firstError(err, closeAll()); err != nil {
		return err
	}
	event := event{Event: "committed", ID: id, Topic: topic}
	if v == client.Rollback {
		event.Event = "rolled back"
	}
	return g.tell(event)
}

// firstMessage makes the message of the arguments, or of the first line of the standard input.
func firstMessage(g *globals, flags *messageFlags, args []string) (*client.Message, error) {
	var body []byte
	if len(args) == 3 {
		body = []byte(args[2])
	} else {
		for line, err := range lines(g.in, 1) {
			if err != nil {
				return nil, err
			}
			body = line
		}
	}
	return flags.message(args[0], args[1], body), nil
}

// transact prepares the message and calls then; checks get answers as long as then runs.
func transact(ctx context.Context, g *globals, m *client.Message, answers client.Verdict, then func(*client.Transaction) error) (err error) {
	listen := func(_ context.Context, check client.Check) client.Verdict {
		e := event{Event: "check", ID: check.ID, Topic: check.Topic, Type: check.Type, Answer: answers.String()}
		if g.tell(e) != nil {
			return client.Unknown
		}
		return answers
	}
	c, closeAll, err := g.dial(ctx, publisherGroup, func(o *client.Options) { o.Topics, o.CheckListener = []string{m.Topic}, listen })
	if err != nil {
		return err
	}
	defer func() { err = firstError(err, closeAll()) }()
	bounded, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	tx, err := c.Prepare(bounded, m)
	if err != nil {
		return err
	}
	defer tx.Leave()
	return then(tx)
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

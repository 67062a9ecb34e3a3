package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newDLQ(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dlq",
		Short: "List the dead letters of a group, deliver them again or end them",
		Long: `A message that a group could not handle in all its attempts, or that expired first, is a dead letter of that
group, with the reason. It is kept until somebody discards it, or has it delivered to the group again.`,
		Example: `  kiteqctl dlq list trade s-books
  kiteqctl dlq requeue trade s-books 3 --reason 'the ledger is back'
  kiteqctl dlq export trade s-books > letters.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("dlq needs one of list, show, requeue, discard, export: see kiteqctl dlq --help")
		},
	}
	cmd.AddCommand(newDLQList(g), newDLQOne(g, "show"), newDLQOne(g, "requeue"), newDLQOne(g, "discard"), newDLQExport(g))
	return cmd
}

// query encodes pairs of a key and a value.
func query(pairs ...string) string {
	values := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values.Encode()
}

func newDLQList(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "list TOPIC GROUP",
		Short:   "List the dead letters of a group, the oldest first",
		Example: "  kiteqctl dlq list trade s-books",
		Args:    names(0, "TOPIC", "GROUP"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			var rows []placed[operate.Letter]
			err := g.each(ctx, args[0], func(d desk) error {
				return g.pages(func(after string) (string, error) {
					var page operate.Letters
					err := g.call(ctx, d, "GET", "/deadletters?"+query("topic", args[0], "group", args[1], "after", after, "limit", strconv.Itoa(operate.MaxPage)), nil, &page)
					for _, l := range page.Letters {
						rows = append(rows, placed[operate.Letter]{d.base, l})
					}
					return page.Next, err
				})
			})
			return listed(err, len(rows), func() error { return g.printLetters(rows) })
		}),
	}
}

func (g *globals) printLetters(rows []placed[operate.Letter]) error {
	return g.table("N\tSTATE\tID\tTYPE\tSEQ\tATTEMPTS\tDIED\tREASON\tBROKER", len(rows), func(i int) (any, string) {
		l := rows[i].Entry
		return rows[i], fmt.Sprintf("%d\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s", l.N, l.State, l.ID, l.Type, l.Seq, l.Attempts,
			localTime(l.DiedMs, "-"), l.Reason, rows[i].Broker)
	})
}

// newDLQOne makes the commands about one dead letter.
func newDLQOne(g *globals, order string) *cobra.Command {
	var by signature
	cmd := &cobra.Command{
		Use: order + " TOPIC GROUP N",
		Short: map[string]string{
			"show": "Show a dead letter with its message", "requeue": "Deliver a dead letter to its group again", "discard": "End a dead letter",
		}[order],
		Long:    "N is the number that dlq list shows; each broker counts by itself.",
		Example: fmt.Sprintf("  kiteqctl dlq %s trade s-books 3", order),
		Args:    names(0, "TOPIC", "GROUP", "N"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			d, err := g.one(ctx, args[0])
			if err != nil {
				return err
			}
			method, where, note := "GET", "/deadletters"+path(args...), any(nil)
			if order != "show" {
				method, where, note = "POST", where+path(order), by.note()
			}
			var letter operate.Letter
			if err := g.call(ctx, d, method, where, note, &letter); err != nil {
				return err
			}
			row := placed[operate.Letter]{d.base, letter}
			if err := g.printLetters([]placed[operate.Letter]{row}); err != nil || order != "show" || g.output == "json" {
				return err
			}
			if letter.Header == nil { // the message could not be understood
				letter.Header = &operate.Header{}
			}
			_, err = fmt.Fprintf(g.out, "feedback: %s\npublisher: %s\nproperties: %v\nbody: %q\n",
				orDash(letter.Feedback), orUnknown(letter.Header.Group), letter.Header.Properties, letter.Body)
			return err
		}),
	}
	if order != "show" {
		by.register(cmd, g.user)
	}
	return cmd
}

func newDLQExport(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "export TOPIC GROUP",
		Short:   "Print the dead letters of a group with their messages, one JSON object a line",
		Example: "  kiteqctl dlq export trade s-books > letters.jsonl",
		Args:    names(0, "TOPIC", "GROUP"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return g.each(ctx, args[0], func(d desk) error {
				response, err := g.send(ctx, d, "GET", "/deadletters/export?"+query("topic", args[0], "group", args[1]), nil)
				if err != nil {
					return err
				}
				defer response.Body.Close()
				_, err = io.Copy(g.out, response.Body)
				return err
			})
		}),
	}
}

package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/client"
	"github.com/kiteq/kiteq/internal/operate"
)

// placed is an answer with the broker that gave it.
type placed[T any] struct {
	Broker string `json:"broker"`
	Entry  T      `json:"entry"`
}

func newTxList(g *globals) *cobra.Command {
	var topic, state string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the undecided transactions, the oldest first",
		Example: `  kiteqctl tx list --state parked
  kiteqctl tx list --topic trade --group p-till -o json`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var rows []placed[operate.Transaction]
			err := g.each(ctx, topic, func(d desk) error {
				return g.pages(func(after string) (string, error) {
					var page operate.Transactions
					err := g.call(ctx, d, "GET", "/transactions?"+query("topic", topic, "group", g.group, "state", state, "after", after, "limit", strconv.Itoa(operate.MaxPage)), nil, &page)
					for _, t := range page.Transactions {
						rows = append(rows, placed[operate.Transaction]{d.base, t})
					}
					return page.Next, err
				})
			})
			return listed(err, len(rows), func() error { return g.printTransactions(rows) })
		}),
	}
	cmd.Flags().StringVar(&topic, "topic", "", "only those of this `TOPIC`")
	cmd.Flags().StringVar(&state, "state", "", "only those that are `open` or parked")
	return cmd
}

// maxPages bounds what a list fetches of one broker: a million entries.
const maxPages = 1000

// pages fetches one page after the other.
func (g *globals) pages(fetch func(after string) (next string, err error)) error {
	after := ""
	for range maxPages {
		next, err := fetch(after)
		if err != nil || next == "" {
			return err
		}
		after = next
	}
	return fmt.Errorf("there are more than %d pages: narrow it", maxPages)
}

func (g *globals) printTransactions(rows []placed[operate.Transaction]) error {
	return g.table("ID\tSTATE\tTOPIC\tGROUP\tPREPARED\tCHECKS\tNEXT\tDECIDED\tBROKER", len(rows), func(i int) (any, string) {
		t := rows[i].Entry
		decided := orDash(localTime(t.DecidedMs, ""))
		if t.By != "" {
			decided += " by " + t.By
		}
		if t.Reason != "" {
			decided += ": " + t.Reason
		}
		return rows[i], fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s", t.ID, t.State, t.Topic, orDash(t.Group),
			localTime(t.PreparedMs, "-"), t.Checks, localTime(t.NextMs, "-"), decided, rows[i].Broker)
	})
}

func newTxShow(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:     "show ID",
		Short:   "Show how a transaction stands, and who decided it",
		Example: "  kiteqctl tx show 0123456789abcdef0123456789abcdef",
		Args:    names(0, "ID"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return g.transaction(cmd.Context(), "GET", "/transactions"+path(args[0]), nil)
		}),
	}
}

func newTxCheck(g *globals) *cobra.Command {
	var by signature
	cmd := &cobra.Command{
		Use:     "check ID",
		Short:   "Have the producer of an undecided message asked now, also of a parked one",
		Example: "  kiteqctl tx check 0123456789abcdef0123456789abcdef --reason 'the till is back'",
		Args:    names(0, "ID"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			return g.transaction(cmd.Context(), "POST", "/transactions"+path(args[0], "check"), by.note())
		}),
	}
	by.register(cmd, g.user)
	return cmd
}

// order decides a transaction as an operator.
func (g *globals) order(ctx context.Context, id string, v client.Verdict, note operate.Note) error {
	return g.transaction(ctx, "POST", "/transactions"+path(id, v.String()), note)
}

// transaction asks every broker about a transaction and prints the answers of those that know it.
func (g *globals) transaction(ctx context.Context, method, path string, order any) error {
	var rows []placed[operate.Transaction]
	err := g.each(ctx, "", func(d desk) error {
		var t operate.Transaction
		err := g.call(ctx, d, method, path, order, &t)
		if err == nil {
			rows = append(rows, placed[operate.Transaction]{d.base, t})
		}
		return err
	})
	return listed(err, len(rows), func() error { return g.printTransactions(rows) })
}

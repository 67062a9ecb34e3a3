package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newBrokers(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "brokers",
		Short: "List the brokers: ready or why not, version, topics, journals of others that they host",
		Long: `Ask every broker of the registry how it is. One that drains is not in the registry: name it with --broker.
The exit code is 1 when a broker cannot be asked; one that is not ready can.`,
		Example: `  kiteqctl brokers
  kiteqctl brokers -o json --broker 10.0.0.7:13800`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			all, err := g.desks(ctx, "")
			if err != nil {
				return err
			}
			var rows []asked
			var failed []error
			for _, d := range all {
				row, err := g.askBroker(ctx, d, "GET", "/broker", nil)
				if err != nil {
					row.Error = err.Error()
					failed = append(failed, err)
				}
				rows = append(rows, row)
			}
			return cmp.Or(g.printBrokers(rows), errors.Join(failed...))
		}),
	}
}

// asked is a broker with what it said of itself, or why it said nothing.
type asked struct {
	Broker string          `json:"broker"`
	Entry  *operate.Status `json:"entry,omitempty"`
	Error  string          `json:"error,omitempty"`
}

// askBroker asks one how it is, or orders it something.
func (g *globals) askBroker(ctx context.Context, d desk, method, path string, order any) (asked, error) {
	var b operate.Status
	if err := g.call(ctx, d, method, path, order, &b); err != nil {
		return asked{Broker: d.base}, err
	}
	return asked{Broker: d.base, Entry: &b}, nil
}

// stage says in a word how a broker is.
func (a *asked) stage() string {
	switch b := a.Entry; {
	case b == nil:
		return "away"
	case b.Drain != nil && drained(b):
		return "drained"
	case b.Drain != nil:
		return "draining"
	case b.Ready:
		return "ready"
	}
	return "not ready"
}

func (a *asked) text() string {
	b := a.Entry
	if b == nil {
		return fmt.Sprintf("%s\t%s\t-\t-\t-\t-\t-\t-\t%s", a.Broker, a.stage(), oneLine([]byte(a.Error)))
	}
	var hosted []string
	for _, h := range b.Hosted {
		hosted = append(hosted, h.Broker+" at "+h.Addr)
	}
	return fmt.Sprintf("%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s", b.Addr, a.stage(), b.Connections, b.InFlight, b.Unsettled, b.Undecided,
		orDash(strings.Join(b.Topics, ",")), orDash(strings.Join(hosted, ", ")), cmp.Or(strings.Join(b.Why, "; "), b.Version))
}

func (g *globals) printBrokers(rows []asked) error {
	head := "BROKER\tSTATE\tCONNECTIONS\tIN-FLIGHT\tUNSETTLED\tUNDECIDED\tTOPICS\tHOSTS\tVERSION-OR-WHY"
	return g.table(head, len(rows), func(i int) (any, string) { return rows[i], rows[i].text() })
}

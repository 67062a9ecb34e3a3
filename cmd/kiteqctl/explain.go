package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/internal/operate"
)

func newExplain(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "explain ID",
		Short: "Tell what became of a message, and why",
		Long: `Ask every broker what it knows of the message, and print it in the order of time: stored, prepared, asked
about, decided by whom, and for each group whether it matched, waits, was sent, failed or is a dead letter.

Exit codes: 0 some broker knows it, 3 none does, 1 it did not work.`,
		Example: `  kiteqctl explain 0123456789abcdef0123456789abcdef
  kiteqctl explain 0123456789abcdef0123456789abcdef --broker 10.0.0.7:13800
  kiteqctl explain 0123456789abcdef0123456789abcdef --admin 127.0.0.1:9000 -o json`,
		Args: names(0, "ID"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return g.each(ctx, "", func(d desk) error {
				var story operate.Story
				if err := g.call(ctx, d, "GET", "/messages"+path(args[0]), nil, &story); err != nil {
					return err
				}
				return g.printStory(&story)
			})
		}),
	}
}

// printStory prints one line for each event, with times of this host's zone.
func (g *globals) printStory(s *operate.Story) error {
	if g.output == "json" {
		return g.print(s, "")
	}
	fmt.Fprintf(g.out, "message %s at broker %s: topic %s, type %s\n", s.ID, s.Broker, orUnknown(s.Topic), orUnknown(s.Type))
	rows := make([]string, 0, len(s.Events))
	for _, e := range s.Events {
		rows = append(rows, fmt.Sprintf("%s\t%s\t%s\t%s", localTime(e.AtMs, "now"), e.What, orDash(e.Group), e.Text))
	}
	return g.columns("  ", "", rows)
}

func orUnknown(text string) string {
	if text == "" {
		return "unknown"
	}
	return text
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// localTime writes Unix ms in this host's zone; none is what 0 means.
func localTime(ms int64, none string) string {
	if ms == 0 {
		return none
	}
	return time.UnixMilli(ms).Format("2006-01-02 15:04:05.000")
}

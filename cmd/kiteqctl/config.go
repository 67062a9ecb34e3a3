package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/kiteq/kiteq/conf"
)

func newConfig(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "config",
		Short:   "Check a broker's configuration",
		Example: "  kiteqctl config check /etc/kiteq/kiteq.toml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("config needs check: see kiteqctl config --help")
		},
	}
	cmd.AddCommand(newConfigCheck(g))
	return cmd
}

func newConfigCheck(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE [-- BROKER-FLAG...]",
		Short: "Read a configuration file as a broker does and name every problem",
		Long: `Read FILE, ours or one of the original KiteQ, with the broker's flags behind --, and print every problem, and what
in it has no effect. The exit code is 1 when a broker would not start with it. Whether addresses are free, hosts are
there and directories can be written only the start tells.`,
		Example: `  kiteqctl config check /etc/kiteq/kiteq.toml
  kiteqctl config check old.toml -- -clusterName=default -zkhost=zk1:2181`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); dash >= 0 {
				args = args[:dash]
			}
			return names(0, "FILE")(cmd, args)
		},
		RunE: action(func(_ *cobra.Command, args []string) error {
			c, err := conf.Load(append([]string{"-configPath", args[0]}, args[1:]...), io.Discard)
			var rows []remark
			if err != nil {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					rows = append(rows, remark{"problem", line})
				}
			}
			problems := len(rows)
			for _, note := range c.Notes {
				rows = append(rows, remark{"note", note})
			}
			for _, r := range rows {
				if err := g.print(r, r.Kind+": "+r.Text); err != nil {
					return err
				}
			}
			if problems > 0 {
				return fmt.Errorf("a broker does not start with %s: problems: %d", args[0], problems)
			}
			return nil
		}),
	}
}

// remark is a line about a configuration, as JSON.
type remark struct {
	Kind string `json:"kind"` // problem or note
	Text string `json:"text"`
}

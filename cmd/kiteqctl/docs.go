package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// newDocs is for who makes packages.
func newDocs() *cobra.Command {
	return &cobra.Command{
		Use:    "docs DIR",
		Short:  "Write the manual pages of all commands into DIR",
		Hidden: true,
		Args:   names(0, "DIR"),
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // it has the day in it
			never := time.Unix(0, 0).UTC()
			if err := doc.GenManTree(root, &doc.GenManHeader{Title: "KITEQCTL", Section: "1", Source: "KiteQ", Date: &never}, args[0]); err != nil {
				return fmt.Errorf("manual pages: %w", err)
			}
			return nil
		}),
	}
}

package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// completionPatience bounds how long a shell waits for the registry when somebody presses tab.
const completionPatience = 2 * time.Second

// completeAll gives every command below root the completions of its arguments, by their names in its usage line, and of
// the flag that names a topic.
func (g *globals) completeAll(root *cobra.Command) {
	for _, cmd := range root.Commands() {
		g.completeAll(cmd)
		if cmd.Flags().Lookup("topic") != nil {
			_ = cmd.RegisterFlagCompletionFunc("topic", g.completion("TOPIC"))
		}
		if cmd.HasSubCommands() || cmd.ValidArgsFunction != nil {
			continue
		}
		names := strings.Fields(cmd.Use)[1:]
		cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
			name := ""
			switch {
			case len(args) < len(names):
				name = names[len(args)]
			case len(names) > 0 && strings.HasSuffix(names[len(names)-1], "..."):
				name = names[len(names)-1]
			}
			return g.completion(strings.Trim(name, "[]."))(cmd, args, begun)
		}
	}
}

// completion suggests what may stand for the name: topics and groups are those of the registry, groups of the topic that
// stands first if there is one.
func (g *globals) completion(name string) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		switch name {
		case "FILE":
			return nil, cobra.ShellCompDirectiveDefault
		case "DIR":
			return nil, cobra.ShellCompDirectiveFilterDirs
		case "TOPIC", "GROUP":
			return g.registered(cmd.Context(), name, args, begun), cobra.ShellCompDirectiveNoFileComp
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

// registered lists the topics or groups of the registry that begin so. A shell is told no errors.
func (g *globals) registered(ctx context.Context, name string, args []string, begun string) (all []string) {
	found := map[string]bool{}
	var topics []string
	if name == "GROUP" && len(args) > 0 {
		topics = args[:1]
	}
	ctx, cancel := context.WithTimeout(ctx, completionPatience)
	defer cancel()
	_ = g.inspect(ctx, topics, func(ctx context.Context, r directory, topics []string) error {
		if name == "TOPIC" {
			for _, topic := range topics {
				found[topic] = true
			}
			return nil
		}
		bindings, err := first(ctx, topics, r, r.WatchBindings)
		for _, groups := range bindings {
			for _, group := range groups {
				found[group.Group] = true
			}
		}
		return err
	})
	for name := range found {
		if strings.HasPrefix(name, begun) {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return all
}

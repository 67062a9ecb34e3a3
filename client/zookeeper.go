package client

import (
	"context"
	"fmt"

	"github.com/kiteq/kiteq/registry/zk"
)

// openRegistry makes a session of the client's own.
func (c *Client) openRegistry() error {
	options, err := zk.ParseURL(c.options.ZKHost)
	if err != nil {
		return err
	}
	session, err := zk.Connect(options, c.options.Log)
	if err != nil {
		return fmt.Errorf("connect to registry %s: %w", c.options.ZKHost, err)
	}
	c.registry = session
	c.parts.run(func(ctx context.Context) {
		if err := session.Run(ctx); err != nil && ctx.Err() == nil {
			c.options.Log.Error("the registry session ended", "component", "client", "err", err)
		}
	})
	return nil
}

package compat_test

import (
	"context"
	"fmt"

	client "github.com/kiteq/kiteq/client/compat"
	"github.com/kiteq/kiteq/client/compat/protocol"
	"github.com/kiteq/kiteq/client/compat/registry"
)

// A program's test does without a broker: the mock takes everything.
func ExampleNewMockKiteQClient() {
	producer := client.NewMockKiteQClient("zk://127.0.0.1:2181", "p-shop", "secret")
	producer.SetTopics([]string{"trade"})
	fmt.Println(producer.Start())
	fmt.Println(producer.SendBytesMessage(client.BuildByteMessage("trade", "pay-succ", []byte("17"), true)))
	// Output:
	// <nil>
	// <nil>
}

// Bindings carry their handlers, and middlewares go around them.
func ExampleKiteQListener() {
	listener := client.NewKiteQListener()
	listener.RegisteHandler(registry.Bind_Regx("s-shop", "trade", "^pay-", 1000, true).WithHandler(func(body interface{}) (bool, error) {
		fmt.Printf("handled %s\n", body)
		return true, nil
	}))
	listener.AddMiddleWares(func(next client.Chain) client.Chain {
		return func(ctx *client.Context) error {
			fmt.Println("before", ctx.Msg.GetHeader().GetMessageType())
			return next(ctx)
		}
	})
	message := client.BuildByteMessage("trade", "pay-succ", []byte("order 17"), true)
	fmt.Println(listener.OnMessage(protocol.NewQMessage(message)))
	message = client.BuildByteMessage("stock", "pay-succ", []byte("order 17"), true)
	fmt.Println(listener.OnMessage(protocol.NewQMessage(message)))
	// Output:
	// before pay-succ
	// handled order 17
	// true
	// before pay-succ
	// false
}

// A client that is not started, or was destroyed, sends nothing.
func ExampleKiteQClient_Destroy() {
	producer := client.NewKiteQClient(context.Background(), "zk://127.0.0.1:2181", "p-shop", "secret")
	producer.Destroy()
	fmt.Println(producer.SendBytesMessage(client.BuildByteMessage("trade", "pay-succ", nil, true)))
	// Output: the client was destroyed
}

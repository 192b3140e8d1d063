"""The engine: forward pass, derivatives, backward pass, Jacobian products, Lyapunov exponents."""

"""MuJoCo scenes, the server's side; `worker/` is the process that compiles, simulates and renders them."""

"""critwin tells when a diffusion model makes up its mind."""

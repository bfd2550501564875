"""What can be drawn from, noised and denoised: exact mixtures, denoisers, the shipped digits."""

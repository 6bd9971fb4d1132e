"""What is trained: attention with its terms in the open, encoders, CLIP, the decoder, the auxiliary head, losses."""
